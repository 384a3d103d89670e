"""`gitlab`: one note on a merge request, a commit status."""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from notifiers import Messages, Mode, Notice, Receipt, Request, Response, Standing, notifier, require_success
from notifiers._findings import Findings, deserves_comment, sort_rows
from notifiers._http import LIST_ANSWER_BYTES, USER_AGENT, CannotNotify, json_request
from notifiers._markdown import Budget
from notifiers._report import report, standing_text, title_line
from notifiers._standing import NO_JOB
from notifiers._sticky import Comment, first_line, keep_one, made
from notifiers._text import cut, one_line
from notifiers._urls import linkable

# A note may have a million characters; nobody reads them, and the page of 100 notes stays small.
NOTE = Budget(chars=65_000, bytes=260_000)
STATUS_FIELD_CHARS = 255
PER_PAGE = 100
MOST_PAGES = 300
# GitLab knows no neutral; a skipped status lets a pipeline go on and claims no success. One that runs can end in other
# states only, and servers before 17.6 have no such state: there it is canceled, which claims none either, and ends.
STATES = {"queued": "pending", "in_progress": "running", "action_required": "pending", "success": "success",
          "failure": "failed", "neutral": "skipped", "inconclusive": "skipped", "cancelled": "canceled"}  # fmt: skip
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, kw_only=True)
class GitLabTarget:
    """A project, what to write there, and with which token.

    `author` is the user name that the token writes as, `marker` an HMAC in hex over (forge, project, merge request,
    package, suite). `is_from_fork`: the commit may be in another project, where the token sets no status. `ref`: the
    tag that the commit has, as it may be on no branch; without one GitLab finds the pipeline by the commit.
    """

    project: str  # numeric id or whole path
    token: str = field(repr=False)
    author: str
    marker: str = field(repr=False)
    merge_request: int | None = None
    head_sha: str | None = None
    comment: Mode = "changes"
    commit_status: bool = True
    is_from_fork: bool = False
    ref: str | None = None
    api_url: str = "https://gitlab.com/api/v4"

    def __post_init__(self) -> None:
        if self.head_sha is not None and not _SHA.fullmatch(self.head_sha):
            raise ValueError("head_sha has to be a whole commit id")


EXAMPLE = GitLabTarget(
    project="group/name",
    token="none",  # noqa: S106 -- it leads nowhere
    author="project_1_bot",
    marker="0" * 64,
    merge_request=12,
    head_sha="1a2b3c4d" * 5,
    comment="always",
)


def stand(standing: Standing, target: GitLabTarget) -> Messages:
    """The commit's status stands so; what needs somebody's doing is a note, too, that is kept true."""
    api = _Api(target)
    did = [*(yield from _standing_note(api, standing)), *(yield from _standing_status(api, standing))]
    return Receipt(did=tuple(did)) if did else Receipt.quiet("it is shown already")


@notifier("gitlab", example=EXAMPLE, stand=stand)
def tell(notice: Notice, target: GitLabTarget) -> Messages:
    """GitLab: a note on the merge request that stays true, a commit status."""
    findings = sort_rows(notice.outcome)
    api = _Api(target)
    did: list[str] = []
    refused: list[CannotNotify] = []
    for step in (_note, _commit_status):
        try:
            did += yield from step(api, notice, findings)
        except CannotNotify as error:
            if error.retry_after_seconds is not None:
                raise  # nothing more is to be asked for now
            refused.append(error)
    if late := next((error for error in refused if error.retryable), None):
        raise late
    if refused:
        raise CannotNotify(
            " ".join(error.message for error in refused),
            gone=all(error.gone for error in refused) and not did,
            status=refused[0].status,
        )
    return Receipt(did=tuple(did)) if did else Receipt.quiet("nothing to tell, or it is there already")


Step = Generator[Request, Response, Sequence[str]]


class _Api:
    """Requests to one project, and the thread of its merge request."""

    def __init__(self, target: GitLabTarget) -> None:
        self.target = target
        self._base = f"{target.api_url.rstrip('/')}/projects/{quote(target.project, safe='')}"
        self._notes = f"/merge_requests/{target.merge_request}/notes"
        self._headers = {"User-Agent": USER_AGENT, "Authorization": f"Bearer {target.token}"}

    def send(self, method: str, path: str, value: dict[str, Any], *, repeatable: bool = True) -> Request:
        request = json_request(method, self._base + path, value, headers=self._headers, repeatable=repeatable)
        return replace(request, max_answer_bytes=2 * 1024 * 1024, timeout_seconds=20.0)

    def comments(self) -> Generator[Request, Response, Sequence[Comment]]:
        """Every note, oldest first."""
        found: list[Comment] = []
        for page in range(1, MOST_PAGES + 1):
            response = yield Request(
                method="GET",
                url=f"{self._base}{self._notes}?sort=asc&order_by=created_at&per_page={PER_PAGE}&page={page}",
                headers=self._headers,
                timeout_seconds=30.0,
                max_answer_bytes=LIST_ANSWER_BYTES,
            )
            items = require_success(response, doing="read the merge request's notes").json()
            listed = items if isinstance(items, list) else []
            found += [note for item in listed if (note := _note_of(item)) is not None]
            if len(listed) < PER_PAGE:
                break
        return found

    def create(self, body: str) -> Generator[Request, Response, Comment]:
        response = yield self.send("POST", self._notes, {"body": body}, repeatable=False)
        return made(_note_of(require_success(response, doing="write a note on the merge request").json()))

    def edit(self, comment: Comment, body: str) -> Generator[Request, Response, None]:
        response = yield self.send("PUT", f"{self._notes}/{comment.id}", {"body": body})
        require_success(response, doing="edit our note on the merge request")

    def remove(self, comment: Comment) -> Generator[Request, Response, None]:
        response = yield Request(method="DELETE", url=f"{self._base}{self._notes}/{comment.id}", headers=self._headers)
        require_success(response, doing="remove our second note")


def _note_of(item: object) -> Comment | None:
    """A note as the API lists it; None for what we could not have written."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), int) or not isinstance(item.get("author"), dict):
        return None
    return Comment(id=item["id"], author=str(item["author"].get("username", "")), body=str(item.get("body") or ""))


def _note(api: _Api, notice: Notice, findings: Findings) -> Step:
    target = api.target
    # What a newer commit ended says nothing about the change; its own result comes.
    if target.merge_request is None or target.comment == "never" or notice.is_superseded:
        return ()
    body = report(notice, findings, budget=NOTE, marker=first_line(target.marker, notice.accepted_at))
    kept = yield from keep_one(
        api,
        author=target.author,
        mac=target.marker,
        body=body,
        may_create=deserves_comment(notice, findings, target.comment),
    )
    return kept.did


def _commit_status(api: _Api, notice: Notice, findings: Findings) -> Step:
    name = _status_name(notice.package, notice.suite)
    return (yield from _set_status(api, STATES[notice.state], name, title_line(notice, findings), notice.url))


def _standing_note(api: _Api, standing: Standing) -> Step:
    target = api.target
    if target.merge_request is None or (standing.is_waiting and standing.key != NO_JOB):
        return ()
    body = standing_text(standing, budget=NOTE, marker=first_line(target.marker, standing.accepted_at))
    # A status has no room for it.
    may_create = standing.needs_words and standing.may_comment
    kept = yield from keep_one(api, author=target.author, mac=target.marker, body=body, may_create=may_create)
    return kept.did


def _standing_status(api: _Api, standing: Standing) -> Step:
    name = _status_name(standing.package, standing.suite)
    return (yield from _set_status(api, STATES[standing.state], name, standing.headline, standing.url))


def _status_name(package: str | None, suite: str) -> str:
    words = ["prpm", one_line(package), one_line(suite)] if package is not None else ["prpm"]
    return cut(" / ".join(words), STATUS_FIELD_CHARS)


def _set_status(api: _Api, state: str, name: str, description: str, url: str) -> Step:
    target = api.target
    if target.head_sha is None or not target.commit_status:
        return ()
    address = linkable(url)
    fields = {
        "name": name,
        "description": cut(description, STATUS_FIELD_CHARS),
        **({"target_url": address} if address and len(address) <= STATUS_FIELD_CHARS else {}),
        **({"ref": target.ref} if target.ref and len(target.ref) <= STATUS_FIELD_CHARS else {}),
    }
    path = f"/statuses/{target.head_sha}"
    response = yield api.send("POST", path, {"state": state, **fields})
    if response.status == 400 and state == "skipped":
        response = yield api.send("POST", path, {"state": "canceled", **fields})
    # Setting the state that it has already is a 400 with these words on real instances.
    if response.status == 400 and b"Cannot transition status" in response.body:
        return ()
    # A fork's commit is not in the project, or not for this token; what there is to say stands in the note.
    if response.status in (403, 404) and target.is_from_fork:
        return ()
    if response.status == 409:
        raise CannotNotify("Another status of this commit is written just now.", retryable=True, status=409)
    require_success(response, doing="set the commit's status")
    return ("set the commit's status",)
