"""GitLab's REST API for reading, with a project's or group's access token.

https://docs.gitlab.com/api/repositories/, .../api/merge_requests/, .../api/project_members/, .../api/branches/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from evals.models import Secret
from notifiers import Request, Response
from notifiers._http import USER_AGENT
from notifiers.gitlab import GitLabTarget
from server.domain.moments import second
from server.forges import (
    FORGES,
    Asking,
    CannotRead,
    Entry,
    Forge,
    Kind,
    OpenChange,
    Place,
    Proposed,
    Proven,
    ReportTo,
    Touched,
    Tree,
    member,
)
from server.forges._asking import ask

PUBLIC_SERVER = "https://gitlab.com"
API_PATH = "/api/v4"
URL_SETTING = "GITLAB_URL"
PAGE_BYTES = 16 * 2**20
PER_PAGE = 100
READ_SECONDS = 20.0  # three tries are over before an attempt of the inbox is
MOST_TREE_PAGES = 200  # 20,000 paths; a repository that has more is not looked through
TAG_REF = "refs/tags/"
DEVELOPER, MAINTAINER = 30, 40  # https://docs.gitlab.com/api/access_requests/#valid-access-levels
KINDS: dict[str, Kind] = {"100644": "file", "100755": "file", "120000": "link", "160000": "submodule"}
_NEXT = re.compile(r'<([^<>]+)>;\s*rel="next"')


def api_url(settings: Mapping[str, Secret]) -> str:
    """That of gitlab.com, or of the server at PRPM_GITLAB_URL."""
    server = settings[URL_SETTING].reveal().rstrip("/") if URL_SETTING in settings else PUBLIC_SERVER
    return server if server.endswith(API_PATH) else server + API_PATH


def tree(place: Place, sha: str) -> Asking[Tree]:
    """All paths of the commit, page by page; GitLab names no sizes."""
    url = (
        f"{_base(place)}/repository/tree?recursive=true&pagination=keyset&per_page={PER_PAGE}&ref={quote(sha, safe='')}"
    )
    entries: list[Entry] = []
    for _ in range(MOST_TREE_PAGES):
        answer = yield from _get(url, place.token, doing="list the commit's files")
        listed = answer.json()
        if not isinstance(listed, list):
            raise _odd()
        entries += (entry for one in listed if (entry := _entry(one)) is not None)
        following = _next_page(answer, place)
        if following is None:
            return Tree(tuple(sorted(entries, key=lambda entry: entry.path)))
        url = following
    return Tree(tuple(sorted(entries, key=lambda entry: entry.path)), is_whole=False)


def _next_page(answer: Response, place: Place) -> str | None:
    """The next page's address, if it is one of the same server: the token goes there."""
    found = _NEXT.search(answer.headers.get("link", ""))
    if found is None:
        return None
    here, there = urlsplit(place.api_url), urlsplit(found[1])
    if (there.scheme, there.netloc) != (here.scheme, here.netloc):
        raise _odd()
    return found[1]


def _entry(one: Any) -> Entry | None:
    path, sha, mode = (member(one, name) for name in ("path", "id", "mode"))
    kind = KINDS.get(mode) if isinstance(mode, str) else None
    if kind is None or not isinstance(path, str) or not isinstance(sha, str):
        return None
    return Entry(path=path, sha=sha, kind=kind)


def blob(place: Place, sha: str, most_bytes: int) -> Asking[bytes]:
    """The content by its own name. Raises CannotRead for more than `most_bytes`."""
    url = f"{_base(place)}/repository/blobs/{quote(sha, safe='')}/raw"
    answer = yield from _get(url, place.token, doing="read a file", most=most_bytes + 1)
    if len(answer.body) > most_bytes:
        raise CannotRead("A file of the package is larger than a package may be.")
    return answer.body


def touched(place: Place, base: str, head: str) -> Asking[Touched]:
    """What lies between the commit that both have and the head."""
    query = f"refs[]={quote(base, safe='')}&refs[]={quote(head, safe='')}"
    answer = yield from _get(
        f"{_base(place)}/repository/merge_base?{query}", place.token, doing="find the common commit"
    )
    common = _text(answer.json(), "id")
    url = f"{_base(place)}/repository/compare?from={quote(common, safe='')}&to={quote(head, safe='')}&straight=true"
    answer = yield from _get(url, place.token, doing="compare the commits")
    diffs = member(answer.json(), "diffs")
    if not isinstance(diffs, list):
        raise _odd()
    names = (member(one, key) for one in diffs for key in ("old_path", "new_path"))
    is_whole = member(answer.json(), "compare_timeout") is not True and len(diffs) < 1000
    return Touched(frozenset(name for name in names if isinstance(name, str)), common, is_whole=is_whole)


def proposed(place: Place, number: int) -> Asking[Proposed]:
    """The merge request as it is now."""
    answer = yield from _get(f"{_base(place)}/merge_requests/{number}", place.token, doing="read the merge request")
    return _proposed(answer.json(), number)


def open_changes(place: Place, since: datetime) -> Asking[tuple[OpenChange, ...]]:
    """https://docs.gitlab.com/api/merge_requests/#list-project-merge-requests"""
    when = quote(since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), safe="")
    query = f"state=opened&order_by=updated_at&sort=desc&updated_after={when}&per_page={PER_PAGE}"
    answer = yield from _get(f"{_base(place)}/merge_requests?{query}", place.token, doing="list the merge requests")
    listed = answer.json()
    if not isinstance(listed, list):
        raise _odd()
    return tuple(OpenChange(_proposed(one, _number(one, "iid")), _text(one, "updated_at")) for one in listed)


def _proposed(body: Any, number: int) -> Proposed:
    source = member(body, "source_project_id")
    # Empty for a moment in a new merge request, and always in a list of them:
    # https://docs.gitlab.com/api/merge_requests/#empty-api-fields-for-new-merge-requests
    base = member(body, "diff_refs", "start_sha")
    return Proposed(
        number=number,
        head_sha=_text(body, "sha"),
        head_ref=_text(body, "source_branch"),
        head_repository_id=source if isinstance(source, int) else None,
        base_ref=_text(body, "target_branch"),
        base_sha=base if isinstance(base, str) and base else None,
        is_open=member(body, "state") == "opened",
        is_draft=member(body, "draft") is True,
        at=second(member(body, "updated_at")),
    )


def branch_head(place: Place, branch: str) -> Asking[str]:
    """The commit at the branch's end."""
    url = f"{_base(place)}/repository/branches/{quote(branch, safe='')}"
    answer = yield from _get(url, place.token, doing="find the branch's head")
    return _text(answer.json(), "commit", "id")


def tag_object(place: Place, tag: str) -> Asking[str | None]:
    """The commit, or of an annotated tag its own object; None once it is deleted."""
    url = f"{_base(place)}/repository/tags/{quote(tag, safe='')}"
    answer = yield from _get(url, place.token, doing="find the tag", or_missing=True)
    found = member(answer.json(), "target")
    return found if isinstance(found, str) else None


def may_write(place: Place, login: str, user_id: int) -> Asking[bool]:
    """Whether this person is a developer of the project or more, by inheritance too."""
    url = f"{_base(place)}/members/all/{user_id}"
    answer = yield from _get(url, place.token, doing="ask who may write", or_missing=True)
    body = answer.json()
    level = member(body, "access_level")
    is_the_one = member(body, "id") == user_id and member(body, "state") == "active"
    # A member who waits for a seat has a role, and no access: https://docs.gitlab.com/api/members/
    is_the_one = is_the_one and member(body, "membership_state") in (None, "active")
    return is_the_one and isinstance(level, int) and level >= DEVELOPER


def prove(api_url: str, token: Secret, name: str) -> Asking[Proven]:
    """The project with this path, else the group."""
    path = quote(name, safe="")
    answer = yield from _get(f"{api_url}/projects/{path}", token, doing="look at the project", or_missing=True)
    if answer.status != 404:
        return (yield from _proven(api_url, token, answer))
    answer = yield from _get(f"{api_url}/groups/{path}?with_projects=false", token, doing="look at the group")
    body = answer.json()
    number = _number(body, "id")
    may = yield from _may_administer(f"{api_url}/groups/{number}", api_url, token)
    return Proven(id=number, name=_text(body, "full_path"), owner_id=number, is_group=True, may_administer=may)


def prove_member(api_url: str, token: Secret, group_id: int, project_id: int) -> Asking[Proven | None]:
    """The project, if it lies in the group or below it. Both are looked at now, as both can be moved."""
    answer = yield from _get(f"{api_url}/groups/{group_id}?with_projects=false", token, doing="look at the group")
    group = _text(answer.json(), "full_path")
    answer = yield from _get(f"{api_url}/projects/{project_id}", token, doing="look at the project", or_missing=True)
    if answer.status == 404:
        return None
    found = yield from _proven(api_url, token, answer)
    return found if found.id == project_id and found.name.startswith(f"{group}/") else None


def _proven(api_url: str, token: Secret, answer: Response) -> Asking[Proven]:
    body = answer.json()
    number, owner, branch = _number(body, "id"), member(body, "namespace", "id"), member(body, "default_branch")
    may = yield from _may_administer(f"{api_url}/projects/{number}", api_url, token)
    return Proven(
        id=number,
        name=_text(body, "path_with_namespace"),
        owner_id=owner if isinstance(owner, int) else None,
        default_branch=branch if isinstance(branch, str) else "",
        may_administer=may,
    )


def _may_administer(place: str, api_url: str, token: Secret) -> Asking[bool]:
    """Whether whoever the token stands for is a maintainer there, by inheritance too: only they make webhooks."""
    if not token.reveal():
        return False
    answer = yield from _get(f"{api_url}/user", token, doing="ask whose the token is")
    user_id = _number(answer.json(), "id")
    answer = yield from _get(
        f"{place}/members/all/{user_id}", token, doing="ask what the token's user may do", or_missing=True
    )
    level = member(answer.json(), "access_level")
    return answer.status != 404 and isinstance(level, int) and level >= MAINTAINER


def person(api_url: str, token: Secret) -> Asking[str]:
    """A project's or group's own token has a user, too: https://docs.gitlab.com/api/users/"""
    answer = yield from _get(f"{api_url}/user", token, doing="ask GitLab whose token this is")
    return _text(answer.json(), "username")


def login(place: Place) -> Asking[str]:
    """Who the token writes as: a project's token has a user of its own."""
    answer = yield from _get(f"{place.api_url.rstrip('/')}/user", place.token, doing="find who the token writes as")
    return _text(answer.json(), "username")


def report_to(place: Place, to: ReportTo) -> GitLabTarget:
    """A note, and a status for what GitHub has checks for."""
    request = to.change.pull_request if isinstance(to.change.pull_request, int) else None
    return GitLabTarget(
        project=str(place.id),
        token=place.token.reveal(),
        author=to.author,
        marker=to.marker,
        merge_request=request,
        head_sha=to.change.head_sha,
        comment=to.settings.comment,
        commit_status=to.settings.check or to.settings.commit_status,
        is_from_fork=request is not None,  # it may be; a change does not say
        ref=to.change.ref.removeprefix(TAG_REF) if to.change.ref.startswith(TAG_REF) else None,
        api_url=place.api_url,
    )


def _get(url: str, token: Secret, *, doing: str, most: int = PAGE_BYTES, or_missing: bool = False) -> Asking[Response]:
    request = Request(
        method="GET", url=url, headers=_headers(token), max_answer_bytes=most, timeout_seconds=READ_SECONDS
    )
    return (yield from ask(request, doing=doing, or_missing=or_missing))


def _headers(token: Secret) -> dict[str, str]:
    # Without a token public projects can be read.
    proof = {"PRIVATE-TOKEN": token.reveal()} if token.reveal() else {}
    return {"Accept": "application/json", **proof, "User-Agent": USER_AGENT}


def _base(place: Place) -> str:
    return f"{place.api_url.rstrip('/')}/projects/{place.id}"


def _text(body: Any, *path: str | int) -> str:
    found = member(body, *path)
    if not isinstance(found, str) or not found:
        raise _odd()
    return found


def _number(body: Any, *path: str | int) -> int:
    found = member(body, *path)
    if not isinstance(found, int):
        raise _odd()
    return found


def _odd() -> CannotRead:
    return CannotRead("GitLab answered in a form that is not known here.", retryable=True)


FORGES.register(
    "gitlab",
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
        prove_member=prove_member,
        login=login,
        report_to=report_to,
        api_url=api_url,
        token_setting="GITLAB_TOKEN",  # noqa: S106 - the name of a setting
        person=person,
    ),
)
