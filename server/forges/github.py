"""GitHub's REST API for reading, and the App's tokens.

https://docs.github.com/rest/git/trees, .../rest/commits/commits#compare-two-commits, .../rest/pulls/pulls,
.../rest/collaborators/collaborators, .../apps/creating-github-apps/authenticating-with-a-github-app
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from jwt.algorithms import RSAAlgorithm

from evals.models import Secret
from notifiers import Request, Response
from notifiers._http import SMALL_ANSWER_BYTES, USER_AGENT, json_request
from notifiers.github import GitHubTarget
from server.domain.events import Repository
from server.domain.merge_queues import queue_base
from server.domain.missed import Sent
from server.domain.moments import second
from server.forges import (
    FORGES,
    AppKind,
    AppToken,
    Asking,
    CannotRead,
    Entry,
    Forge,
    Installed,
    Kind,
    Listed,
    OpenChange,
    Place,
    Proposed,
    Proven,
    ReportTo,
    Sending,
    SentPage,
    Touched,
    Tree,
    member,
)
from server.forges._asking import ask

API_VERSION = "2022-11-28"
MOST_OPEN = 100  # pull requests that are looked at after an outage, the latest
PUBLIC_API = "https://api.github.com"
API_SETTING = "GITHUB_API_URL"
TREE_BYTES = 32 * 2**20  # GitHub cuts trees at 100,000 entries or 7 MB
PAGE_BYTES = 8 * 2**20
PER_PAGE = 100
MAX_NAME = 255  # characters of a delivery's id, as they are kept when it arrives
READ_SECONDS = 20.0  # three tries are over before an attempt of the inbox is
MOST_FILE_PAGES = 30  # 3,000 files, which is where GitHub ends its list
MOST_REPOSITORY_PAGES = 30  # of an installation that has more, the rest is linked when something happens there
JWT_SECONDS = 540  # ten minutes are the most
CLOCK_SECONDS = 60  # GitHub's advice against clocks that differ
# `maintain` and `admin` answer as write here, `triage` as read.
# https://docs.github.com/rest/collaborators/collaborators#get-repository-permissions-for-a-user
WRITERS = ("admin", "write")
KINDS: Mapping[str, Kind] = {"100644": "file", "100755": "file", "120000": "link", "160000": "submodule"}
LIST_RIGHTS = {"metadata": "read"}
READ_RIGHTS = {"contents": "read", "metadata": "read", "pull_requests": "read"}
REPORT_RIGHTS = {"checks": "write", "pull_requests": "write", "statuses": "write", "metadata": "read"}


def api_url(settings: Mapping[str, Secret]) -> str:
    """GitHub's, or that of an Enterprise Server by PRPM_GITHUB_API_URL."""
    return settings[API_SETTING].reveal().rstrip("/") if API_SETTING in settings else PUBLIC_API


def app_jwt(app_id: str, private_key: Secret, *, now: float) -> Secret:
    """The App's own proof for nine minutes. Raises CannotRead for a key that is none."""
    claims = {"iat": int(now) - CLOCK_SECONDS, "exp": int(now) + JWT_SECONDS, "iss": app_id}
    try:
        return Secret(jwt.encode(claims, _signing_key(private_key.reveal()), algorithm="RS256"))
    except (jwt.PyJWTError, ValueError, TypeError):
        raise CannotRead("PRPM_GITHUB_APP_PRIVATE_KEY is no RSA key in PEM.") from None


# To read a key is to prove its primes, which holds the event loop for some fifty times as long as to sign with it.
# Few are kept: a process has one App, and another one after the operator made it anew.
@lru_cache(maxsize=4)
def _signing_key(pem: str) -> RSAPrivateKey:
    key = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(pem)
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("A public key signs nothing.")
    return key


def installation_of(api_url: str, proof: Secret, name: str) -> Asking[Installed | None]:
    """The installation that has the repository, by the App's own word: a body may name any (W18)."""
    return (yield from _installation(f"{api_url}/repos/{_name(name)}/installation", proof))


def installation(api_url: str, proof: Secret, number: int) -> Asking[Installed | None]:
    """The installation as it is now; None once it is removed."""
    return (yield from _installation(f"{api_url}/app/installations/{number}", proof))


def _installation(url: str, proof: Secret) -> Asking[Installed | None]:
    answer = yield from _get(url, proof, doing="find the App's installation", or_missing=True)
    if answer.status == 404:
        return None
    body = answer.json()
    found, owner, login = member(body, "id"), member(body, "account", "id"), member(body, "account", "login")
    if not isinstance(found, int):
        raise _odd()
    return Installed(
        id=found,
        owner_id=owner if isinstance(owner, int) else None,
        owner=login if isinstance(login, str) else "",
        is_suspended=member(body, "suspended_at") is not None,
    )


def installation_token(
    api_url: str, proof: Secret, installation_id: int, *, repository_id: int | None, rights: Mapping[str, str]
) -> Asking[AppToken]:
    """A token for these rights alone, in one repository (L8); None: in all that the installation has."""
    url = f"{api_url}/app/installations/{installation_id}/access_tokens"
    narrowed = {"repository_ids": [repository_id]} if repository_id is not None else {}
    body = {**narrowed, "permissions": dict(rights)}
    request = json_request("POST", url, body, headers=_headers(proof))
    answer = yield from ask(request, doing="get a token of the App's installation")
    token, expires_at = member(answer.json(), "token"), member(answer.json(), "expires_at")
    if not isinstance(token, str) or not token or not isinstance(expires_at, str):
        raise _odd()
    return AppToken(Secret(token), expires_at)


def installation_repositories(api_url: str, token: Secret) -> Asking[Listed]:
    """What the installation has been given, by a token of it."""
    found: list[tuple[Repository, int | None]] = []
    for page in range(1, MOST_REPOSITORY_PAGES + 1):
        url = f"{api_url}/installation/repositories?per_page={PER_PAGE}&page={page}"
        answer = yield from _get(url, token, doing="list the installation's repositories", most=PAGE_BYTES)
        listed = member(answer.json(), "repositories")
        if not isinstance(listed, list):
            raise _odd()
        found += (_repository(one) for one in listed)
        if len(listed) < PER_PAGE:
            return Listed(tuple(found), is_whole=True)
    return Listed(tuple(found), is_whole=False)


def _repository(one: Any) -> tuple[Repository, int | None]:
    number, name, branch = (member(one, key) for key in ("id", "full_name", "default_branch"))
    owner = member(one, "owner", "id")
    if not isinstance(number, int) or not isinstance(name, str):
        raise _odd()
    branch = branch if isinstance(branch, str) else ""
    repository = Repository(forge="github", id=number, name=name, default_branch=branch)
    return repository, owner if isinstance(owner, int) else None


def sent(api_url: str, proof: Secret, cursor: str) -> Asking[SentPage]:
    """What GitHub sent to the App's webhook in the last three days. It sends each once.

    https://docs.github.com/rest/apps/webhooks#list-deliveries-for-an-app-webhook
    """
    url = f"{api_url}/app/hook/deliveries?per_page={PER_PAGE}"
    if cursor:
        url += f"&cursor={quote(cursor, safe='')}"
    answer = yield from _get(url, proof, doing="list what was sent to the App", most=PAGE_BYTES)
    listed = answer.json()
    if not isinstance(listed, list):
        raise _odd()
    found = tuple(one for one in map(_sent, listed) if one is not None)
    return SentPage(found, _next_cursor(answer.headers.get("link", "")))


def _sent(one: Any) -> Sent | None:
    number, guid, event, moment = (member(one, name) for name in ("id", "guid", "event", "delivered_at"))
    status, words = member(one, "status_code"), member(one, "status")
    if not isinstance(number, int) or not isinstance(guid, str) or not isinstance(moment, str):
        return None
    try:
        sent_at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return Sent(
        attempt_id=number,
        delivery_id=guid[:MAX_NAME],
        event=str(event or "")[:MAX_NAME],
        sent_at=sent_at if sent_at.tzinfo else sent_at.replace(tzinfo=UTC),
        has_arrived=isinstance(status, int) and 200 <= status < 300,
        trouble=(words if isinstance(words, str) and words.isprintable() else "")[:MAX_NAME],
    )


def _next_cursor(link: str) -> str:
    """Of the address of the next page only its cursor is taken."""
    for part in link.split(","):
        address, _, words = part.partition(";")
        if 'rel="next"' in words:
            return next(iter(parse_qs(urlsplit(address.strip().strip("<>")).query).get("cursor", [])), "")
    return ""


def send_again(api_url: str, proof: Secret, attempt_id: int) -> Asking[bool]:
    """It is sent once more, under its own delivery id. False: GitHub has it no more."""
    url = f"{api_url}/app/hook/deliveries/{attempt_id}/attempts"
    request = Request(method="POST", url=url, headers=_headers(proof), timeout_seconds=READ_SECONDS)
    answer = yield from ask(request, doing="ask for a delivery again", or_missing=True)
    return answer.status != 404


def tree(place: Place, sha: str) -> Asking[Tree]:
    """All paths of the commit in one request; a tree that GitHub cuts is not whole."""
    url = f"{_base(place)}/git/trees/{quote(sha, safe='')}?recursive=1"
    answer = yield from _get(url, place.token, doing="list the commit's files", most=TREE_BYTES)
    listed = member(answer.json(), "tree")
    if not isinstance(listed, list):
        raise _odd()
    entries = sorted((entry for one in listed if (entry := _entry(one)) is not None), key=lambda entry: entry.path)
    return Tree(tuple(entries), is_whole=member(answer.json(), "truncated") is False)


def _entry(one: Any) -> Entry | None:
    path, sha, mode, size = (member(one, name) for name in ("path", "sha", "mode", "size"))
    kind = KINDS.get(mode) if isinstance(mode, str) else None
    if kind is None or not isinstance(path, str) or not isinstance(sha, str):
        return None  # a folder, or nothing that a package could hold
    return Entry(path=path, sha=sha, kind=kind, bytes=size if isinstance(size, int) else -1)


def blob(place: Place, sha: str, most_bytes: int) -> Asking[bytes]:
    """The content by its own name. Raises CannotRead for more than `most_bytes`."""
    url = f"{_base(place)}/git/blobs/{quote(sha, safe='')}"
    # Base64 with a line end after each 60 characters, and some JSON around it.
    answer = yield from _get(url, place.token, doing="read a file", most=most_bytes * 7 // 5 + 10_000)
    content, encoding = member(answer.json(), "content"), member(answer.json(), "encoding")
    if not isinstance(content, str) or encoding != "base64":
        raise _odd()
    try:
        found = base64.b64decode(content)
    except (binascii.Error, ValueError):
        raise _odd() from None
    if len(found) > most_bytes:
        raise CannotRead("A file of the package is larger than a package may be.")
    return found


def touched(place: Place, base: str, head: str) -> Asking[Touched]:
    """What lies between the commit that both have and the head. Beyond 300 files GitHub names no more."""
    url = f"{_base(place)}/compare/{quote(base, safe='')}...{quote(head, safe='')}"
    answer = yield from _get(f"{url}?per_page={PER_PAGE}", place.token, doing="compare the commits", most=PAGE_BYTES)
    files, common = member(answer.json(), "files"), member(answer.json(), "merge_base_commit", "sha")
    if not isinstance(files, list) or not isinstance(common, str):
        raise _odd()
    names = (member(one, key) for one in files for key in ("filename", "previous_filename"))
    return Touched(frozenset(name for name in names if isinstance(name, str)), common, is_whole=len(files) < 300)


def proposed(place: Place, number: int) -> Asking[Proposed]:
    """The pull request as it is now."""
    answer = yield from _get(
        f"{_base(place)}/pulls/{number}", place.token, doing="read the pull request", most=PAGE_BYTES
    )
    return _proposed(answer.json(), number)


def open_changes(place: Place, since: datetime) -> Asking[tuple[OpenChange, ...]]:
    """https://docs.github.com/rest/pulls/pulls#list-pull-requests"""
    query = f"state=open&sort=updated&direction=desc&per_page={MOST_OPEN}"
    answer = yield from _get(
        f"{_base(place)}/pulls?{query}", place.token, doing="list the pull requests", most=PAGE_BYTES
    )
    listed = answer.json()
    if not isinstance(listed, list):
        raise _odd()
    # GitHub's times are all in UTC and of one form, in which the text sorts as the time does.
    when = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    found = []
    for one in listed:
        number, updated_at = member(one, "number"), member(one, "updated_at")
        if not isinstance(number, int) or not isinstance(updated_at, str):
            raise _odd()
        if updated_at >= when:
            found.append(OpenChange(_proposed(one, number), updated_at))
    return tuple(found)


def _proposed(body: Any, number: int) -> Proposed:
    head_repository = member(body, "head", "repo", "id")
    try:
        return Proposed(
            number=number,
            head_sha=_text(body, "head", "sha"),
            head_ref=_text(body, "head", "ref"),
            head_repository_id=head_repository if isinstance(head_repository, int) else None,
            base_ref=_text(body, "base", "ref"),
            base_sha=_text(body, "base", "sha"),
            is_open=member(body, "state") == "open",
            is_draft=member(body, "draft") is True,
            at=second(member(body, "updated_at")),
        )
    except TypeError:
        raise _odd() from None


def branch_head(place: Place, branch: str) -> Asking[str]:
    """The commit at the branch's end."""
    url = f"{_base(place)}/git/ref/heads/{quote(branch, safe='/')}"
    answer = yield from _get(url, place.token, doing="find the branch's head")
    try:
        return _text(answer.json(), "object", "sha")
    except TypeError:
        raise _odd() from None


def tag_object(place: Place, tag: str) -> Asking[str | None]:
    """The commit, or of an annotated tag its own object; None once it is deleted."""
    url = f"{_base(place)}/git/ref/tags/{quote(tag, safe='/')}"
    answer = yield from _get(url, place.token, doing="find the tag", or_missing=True)
    found = member(answer.json(), "object", "sha")
    return found if isinstance(found, str) else None


def may_write(place: Place, login: str, user_id: int) -> Asking[bool]:
    """Whether the person with this number, who may have another name by now, may write to the repository."""
    url = f"{_base(place)}/collaborators/{quote(login, safe='')}/permission"
    answer = yield from _get(url, place.token, doing="ask who may write", or_missing=True)
    body = answer.json()
    return member(body, "user", "id") == user_id and member(body, "permission") in WRITERS


def prove(api_url: str, token: Secret, name: str) -> Asking[Proven]:
    """The repository; `permissions` are those of the person who made the token, whatever the token itself may do."""
    answer = yield from _get(f"{api_url}/repos/{_name(name)}", token, doing="look at the repository", most=PAGE_BYTES)
    repository, owner_id = _repository(answer.json())
    return Proven(
        id=repository.id,
        name=repository.name,
        owner_id=owner_id,
        default_branch=repository.default_branch,
        may_administer=member(answer.json(), "permissions", "admin") is True,
    )


def person(api_url: str, token: Secret) -> Asking[str]:
    """An installation's token has nobody behind it, and is refused: https://docs.github.com/rest/users/users"""
    answer = yield from _get(f"{api_url}/user", token, doing="ask GitHub whose token this is")
    try:
        return _text(answer.json(), "login")
    except TypeError:
        raise _odd() from None


def login(place: Place) -> Asking[str]:
    """Who the token writes as: what tokens of installations and of people can ask about themselves alike."""
    # https://docs.github.com/enterprise-server/graphql/guides/forming-calls-with-graphql: beside /v3, not below it
    url = f"{place.api_url.rstrip('/').removesuffix('/v3')}/graphql"
    request = json_request("POST", url, {"query": "query { viewer { login } }"}, headers=_headers(place.token))
    answer = yield from ask(request, doing="find who the token writes as")
    try:
        return _text(answer.json(), "data", "viewer", "login")
    except TypeError:
        raise _odd() from None


def report_to(place: Place, to: ReportTo) -> GitHubTarget:
    """Check runs are an App's to write; whoever has a person's token sets a commit's status instead."""
    by_app = to.app_id is not None
    return GitHubTarget(
        repository=place.name,
        token=place.token.reveal(),
        author=to.author,
        marker=to.marker,
        pull_request=to.change.pull_request if isinstance(to.change.pull_request, int) else None,
        head_sha=to.change.head_sha,
        comment=to.settings.comment,
        check_run=by_app and to.settings.check,
        commit_status=to.settings.commit_status or (to.settings.check and not by_app),
        api_url=place.api_url,
        app_id=int(to.app_id) if to.app_id is not None and to.app_id.isdigit() else None,
        offers_rerun=by_app,
    )


def _get(
    url: str, token: Secret, *, doing: str, most: int = SMALL_ANSWER_BYTES, or_missing: bool = False
) -> Asking[Response]:
    request = Request(
        method="GET", url=url, headers=_headers(token), max_answer_bytes=most, timeout_seconds=READ_SECONDS
    )
    return (yield from ask(request, doing=doing, or_missing=or_missing))


def _headers(token: Secret) -> dict[str, str]:
    # Without a token public repositories can be read, 60 times an hour.
    proof = {"Authorization": f"Bearer {token.reveal()}"} if token.reveal() else {}
    return {
        "Accept": "application/vnd.github+json",
        **proof,
        "User-Agent": USER_AGENT,
        "X-GitHub-Api-Version": API_VERSION,
    }


def _base(place: Place) -> str:
    return f"{place.api_url.rstrip('/')}/repos/{_name(place.name)}"


def _name(name: str) -> str:
    return "/".join(quote(part, safe="") for part in name.split("/", 1))


def _text(body: Any, *path: str | int) -> str:
    found = member(body, *path)
    if not isinstance(found, str) or not found:
        raise TypeError
    return found


def _odd() -> CannotRead:
    return CannotRead("GitHub answered in a form that is not known here.", retryable=True)


FORGES.register(
    "github",
    Forge(
        tree=tree,
        blob=blob,
        touched=touched,
        proposed=proposed,
        open_changes=open_changes,
        branch_head=branch_head,
        tag_object=tag_object,
        may_write=may_write,
        prove=prove,
        login=login,
        report_to=report_to,
        queue_base=queue_base,
        api_url=api_url,
        token_setting="GITHUB_TOKEN",  # noqa: S106 - the name of a setting
        app=AppKind(
            id_setting="GITHUB_APP_ID",
            key_setting="GITHUB_APP_PRIVATE_KEY",
            client_id_setting="GITHUB_CLIENT_ID",
            client_secret_setting="GITHUB_CLIENT_SECRET",  # noqa: S106 - as above
            rights={"read": READ_RIGHTS, "report": REPORT_RIGHTS},
            proof=lambda app_id, key, now: app_jwt(app_id, key, now=now),
            installation_of=installation_of,
            installation=installation,
            token=installation_token,
            list_rights=LIST_RIGHTS,
            repositories=installation_repositories,
            sending=Sending(page=sent, again=send_again),
        ),
        person=person,
    ),
)
