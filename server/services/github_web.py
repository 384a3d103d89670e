"""How GitHub makes an App by a manifest, and says who a person is and what they administer.

https://docs.github.com/en/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
https://docs.github.com/en/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
https://docs.github.com/rest/apps/installations, .../rest/orgs/members
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

from msgspec import Struct

from evals.models import Secret
from notifiers import Request
from notifiers._http import USER_AGENT, json_request
from server.forges import Asking, CannotRead, member
from server.forges._asking import ask
from server.forges.github import API_VERSION, LIST_RIGHTS, PER_PAGE, PUBLIC_API, READ_RIGHTS, REPORT_RIGHTS

PUBLIC_WEB = "https://github.com"
EVENTS = ("check_run", "check_suite", "issue_comment", "merge_group", "pull_request", "push", "repository")
# `members` is asked for so that whoever links an installation can be seen to be an owner of the organisation;
# `merge_queues`, without which GitHub tells no App of the event `merge_group`. No token is asked for with it.
RIGHTS = {**READ_RIGHTS, **REPORT_RIGHTS, **LIST_RIGHTS, "members": "read", "merge_queues": "read"}
CODE = re.compile(r"[A-Za-z0-9_-]{1,200}")
ORGANIZATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")
LONGEST_NAME = 34
MOST_PAGES = 10  # of a person's installations


class Converted(Struct, frozen=True, kw_only=True):
    """An App that GitHub has just made."""

    app_id: str
    slug: str
    client_id: str
    page_url: str
    private_key: Secret
    client_secret: Secret
    webhook_secret: Secret


class Person(Struct, frozen=True, kw_only=True):
    """Whoever logged in at GitHub."""

    id: int
    login: str


def web_url(api_url: str) -> str:
    """Where people are sent to: an Enterprise Server has its API below its own address."""
    return PUBLIC_WEB if api_url == PUBLIC_API else api_url.removesuffix("/api/v3")


def manifest(public_url: str, *, is_public: bool) -> dict[str, Any]:
    """What the App is called, may do, and is told of."""
    host = public_url.partition("://")[2]
    return {
        "name": f"prpm testing {host}"[:LONGEST_NAME],
        "url": public_url,
        "hook_attributes": {"url": f"{public_url}/webhooks/github", "active": True},
        "redirect_url": f"{public_url}/setup/github/created",
        "callback_urls": [f"{public_url}/setup/github/callback"],
        "setup_url": f"{public_url}/setup/github/installed",
        "setup_on_update": False,
        "public": is_public,
        "default_permissions": dict(sorted(RIGHTS.items())),
        "default_events": list(EVENTS),
    }


def registration_url(web: str, *, organization: str, state: str) -> str:
    """Where the manifest is posted to, by the person's own browser."""
    owner = f"organizations/{quote(organization, safe='')}/" if organization else ""
    return f"{web}/{owner}settings/apps/new?{urlencode({'state': state})}"


def convert(api_url: str, code: str) -> Asking[Converted]:
    """The App's keys for the code of the redirect, which works once and for an hour."""
    if not CODE.fullmatch(code):
        raise CannotRead("GitHub's code is missing or damaged. Begin again.")
    request = Request(method="POST", url=f"{api_url}/app-manifests/{code}/conversions", headers=_headers(None))
    answer = yield from ask(request, doing="take the new App's keys")
    body = answer.json()
    number = member(body, "id")
    if not isinstance(number, int):
        raise _odd()
    return Converted(
        app_id=str(number),
        slug=_text(body, "slug"),
        client_id=_text(body, "client_id"),
        page_url=_text(body, "html_url"),
        private_key=Secret(_text(body, "pem")),
        client_secret=Secret(_text(body, "client_secret")),
        webhook_secret=Secret(_text(body, "webhook_secret")),
    )


def authorize_url(web: str, *, client_id: str, redirect_uri: str, state: str) -> str:
    """Where a person says who they are."""
    query = urlencode({"client_id": client_id, "redirect_uri": redirect_uri, "state": state, "allow_signup": "false"})
    return f"{web}/login/oauth/authorize?{query}"


def user_token(web: str, *, client_id: str, client_secret: Secret, code: str, redirect_uri: str) -> Asking[Secret]:
    """The person's token for the code of the redirect."""
    if not CODE.fullmatch(code):
        raise CannotRead("GitHub's code is missing or damaged. Begin again.")
    body = {
        "client_id": client_id,
        "client_secret": client_secret.reveal(),
        "code": code,
        "redirect_uri": redirect_uri,
    }
    request = json_request(
        "POST", f"{web}/login/oauth/access_token", body, headers={"Accept": "application/json"}, repeatable=False
    )
    answer = yield from ask(request, doing="learn from GitHub who you are")
    token = member(answer.json(), "access_token")
    if not isinstance(token, str) or not token:  # a code that was used or is another's is a 200 with an error
        raise CannotRead("GitHub did not accept the log-in. Begin again.")
    return Secret(token)


def person(api_url: str, token: Secret) -> Asking[Person]:
    """Whose token it is."""
    answer = yield from _get(f"{api_url}/user", token, doing="learn from GitHub who you are")
    number, login = member(answer, "id"), member(answer, "login")
    if not isinstance(number, int) or not isinstance(login, str):
        raise _odd()
    return Person(id=number, login=login)


def administers(api_url: str, token: Secret, who: Person, installation_id: int) -> Asking[bool]:
    """Whether the installation is the person's own, or that of an organisation that they own.

    GitHub lists installations for whoever may read one of their repositories, so being listed is not enough.
    """
    account = yield from _account_of(api_url, token, installation_id)
    if member(account, "type") != "Organization":
        return bool(member(account, "id") == who.id)
    login = member(account, "login")
    if not isinstance(login, str):
        raise _odd()
    request = Request(
        method="GET",
        url=f"{api_url}/user/memberships/orgs/{quote(login, safe='')}",
        headers=_headers(token),
    )
    try:
        answer = yield from ask(request, doing="learn whether you own the organisation", or_missing=True)
    except CannotRead as error:
        if error.retryable:
            raise
        return False  # 403: not a member
    body = answer.json()
    is_it = member(body, "organization", "id") == member(account, "id") and member(body, "user", "id") == who.id
    return bool(is_it and member(body, "role") == "admin" and member(body, "state") == "active")


def _account_of(api_url: str, token: Secret, installation_id: int) -> Asking[Any]:
    for page in range(1, MOST_PAGES + 1):
        body = yield from _get(
            f"{api_url}/user/installations?per_page={PER_PAGE}&page={page}", token, doing="list your installations"
        )
        listed = member(body, "installations")
        if not isinstance(listed, list):
            raise _odd()
        for one in listed:
            if member(one, "id") == installation_id:
                return member(one, "account")
        if len(listed) < PER_PAGE:
            break
    return None


def _get(url: str, token: Secret, *, doing: str) -> Asking[Any]:
    request = Request(method="GET", url=url, headers=_headers(token), max_answer_bytes=4 * 2**20)
    answer = yield from ask(request, doing=doing)
    return answer.json()


def _headers(token: Secret | None) -> dict[str, str]:
    proof = {"Authorization": f"Bearer {token.reveal()}"} if token is not None else {}
    return {
        "Accept": "application/vnd.github+json",
        **proof,
        "User-Agent": USER_AGENT,
        "X-GitHub-Api-Version": API_VERSION,
    }


def _text(body: Any, name: str) -> str:
    found = member(body, name)
    if not isinstance(found, str) or not found:
        raise _odd()
    return found


def _odd() -> CannotRead:
    return CannotRead("GitHub answered in a form that is not known here.", retryable=True)
