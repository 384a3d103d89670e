"""`github`: one comment on a pull request, a check run with annotations, a commit status."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from notifiers import Messages, Mode, Notice, Receipt, Request, Response, notifier, require_success
from notifiers._annotations import Annotation, annotate
from notifiers._findings import Findings, deserves_comment, sort_rows
from notifiers._http import LIST_ANSWER_BYTES, USER_AGENT, CannotNotify, json_request
from notifiers._markdown import Budget
from notifiers._report import report, title_line
from notifiers._sticky import Comment, first_line, keep_one, made
from notifiers._text import cut, one_line
from notifiers._urls import linkable

API_VERSION = "2022-11-28"
# 65,536 characters by the text of the error, 262,144 bytes as others observed; below both readings.
COMMENT = Budget(chars=65_000, bytes=260_000)
# Documented in characters, enforced in bytes.
CHECK_SUMMARY = Budget(chars=65_000, bytes=65_000)
CHECK_TITLE_CHARS = 255
STATUS_DESCRIPTION_CHARS = 140
STATUS_CONTEXT_CHARS = 255
ANNOTATIONS_PER_REQUEST = 50
PER_PAGE = 100
# 30,000 comments: no pull request has them, so the list never ends for another reason.
MOST_PAGES = 300

_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
CONCLUSIONS = {"passed": "success", "failed": "failure"}
STATES = {"passed": "success", "failed": "failure"}


@dataclass(frozen=True, kw_only=True)
class GitHubTarget:
    """A repository, what to write there, and with which token.

    `author` is the login that the token writes as ("github-actions[bot]" for a workflow's own), `marker` an HMAC in
    hex over (forge, repository, pull request, package, suite). A status knows no neutral: inconclusive is `error`
    there, `neutral` in a check run.
    """

    repository: str  # "owner/name"
    token: str = field(repr=False)
    author: str
    marker: str = field(repr=False)
    pull_request: int | None = None
    head_sha: str | None = None  # of the pull request's own commit, never of GitHub's merge commit
    comment: Mode = "changes"
    check_run: bool = True
    commit_status: bool = False
    api_url: str = "https://api.github.com"

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError("repository has to be `owner/name`")
        if self.head_sha is not None and not _SHA.fullmatch(self.head_sha):
            raise ValueError("head_sha has to be a whole commit id")


EXAMPLE = GitHubTarget(
    repository="owner/name",
    token="none",  # noqa: S106 -- it leads nowhere
    author="github-actions[bot]",
    marker="0" * 64,
    pull_request=12,
    head_sha="1a2b3c4d" * 5,
    comment="always",
    commit_status=True,
)


@notifier("github", example=EXAMPLE)
def tell(notice: Notice, target: GitHubTarget) -> Messages:
    """GitHub: a comment that stays true, a check run with annotations, a commit status."""
    findings = sort_rows(notice.outcome)
    api = _Api(target)
    did: list[str] = []
    refused: list[CannotNotify] = []
    comment: Comment | None = None
    # A token may comment and not write checks, or the other way round: each is tried whatever the others said.
    for step in (_comment, _check_run, _commit_status):
        try:
            done, seen = yield from step(api, notice, findings)
            did += done
            comment = comment or seen
        except CannotNotify as error:
            if error.retryable:
                raise
            refused.append(error)
    if refused:
        raise CannotNotify(
            " ".join(error.message for error in refused),
            gone=all(error.gone for error in refused) and not did,
            status=refused[0].status,
        )
    if not did:
        return Receipt.quiet("nothing to tell, or it is there already")
    return Receipt(
        did=tuple(did), message_id=str(comment.id) if comment else None, url=comment.url if comment else None
    )


Done = tuple[Sequence[str], Comment | None]
Step = Generator[Request, Response, Done]


class _Api:
    """Requests to one repository, and the thread of its pull request."""

    def __init__(self, target: GitHubTarget) -> None:
        self.target = target
        self._base = f"{target.api_url.rstrip('/')}/repos/{target.repository}"
        self._headers = {
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": API_VERSION,
            "User-Agent": USER_AGENT,
            "Authorization": f"Bearer {target.token}",
        }

    def get(self, path: str) -> Request:
        return Request(
            method="GET",
            url=self._base + path,
            headers=self._headers,
            timeout_seconds=30.0,
            max_answer_bytes=LIST_ANSWER_BYTES,
        )

    def send(self, method: str, path: str, value: Mapping[str, Any], *, repeatable: bool = True) -> Request:
        request = json_request(method, self._base + path, value, headers=self._headers, repeatable=repeatable)
        # What was written comes back whole.
        return replace(request, max_answer_bytes=2 * 1024 * 1024, timeout_seconds=20.0)

    def comments(self) -> Generator[Request, Response, Sequence[Comment]]:
        """Every comment, oldest first. The list cannot be sorted or filtered, so all pages are read."""
        found: list[Comment] = []
        for page in range(1, MOST_PAGES + 1):
            response = yield self.get(f"/issues/{self.target.pull_request}/comments?per_page={PER_PAGE}&page={page}")
            items = require_success(response, doing="read the pull request's comments").json()
            listed = items if isinstance(items, list) else []
            found += [comment for item in listed if (comment := _comment_of(item)) is not None]
            if len(listed) < PER_PAGE and 'rel="next"' not in response.headers.get("link", ""):
                break
        return found

    def create(self, body: str) -> Generator[Request, Response, Comment]:
        path = f"/issues/{self.target.pull_request}/comments"
        response = yield self.send("POST", path, {"body": body}, repeatable=False)
        return made(_comment_of(require_success(response, doing="comment on the pull request").json()))

    def edit(self, comment: Comment, body: str) -> Generator[Request, Response, None]:
        response = yield self.send("PATCH", f"/issues/comments/{comment.id}", {"body": body})
        require_success(response, doing="edit our comment on the pull request")

    def remove(self, comment: Comment) -> Generator[Request, Response, None]:
        response = yield Request(
            method="DELETE", url=f"{self._base}/issues/comments/{comment.id}", headers=self._headers
        )
        require_success(response, doing="remove our second comment")


def _comment_of(item: object) -> Comment | None:
    """A comment as the API lists it; None for what we could not have written."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), int) or not isinstance(item.get("user"), dict):
        return None
    url = item.get("html_url")
    return Comment(
        id=item["id"],
        author=str(item["user"].get("login", "")),
        body=str(item.get("body") or ""),
        url=url if isinstance(url, str) else None,
    )


def _comment(api: _Api, notice: Notice, findings: Findings) -> Step:
    target = api.target
    if target.pull_request is None or target.comment == "never":
        return (), None
    body = report(notice, findings, budget=COMMENT, marker=first_line(target.marker, notice))
    kept = yield from keep_one(
        api,
        author=target.author,
        mac=target.marker,
        body=body,
        may_create=deserves_comment(notice, findings, target.comment),
    )
    return kept.did, kept.comment


def _check_run(api: _Api, notice: Notice, findings: Findings) -> Step:
    """One check run a job, however often this is tried: annotations are appended, so only missing ones go out."""
    if api.target.head_sha is None or not api.target.check_run:
        return (), None
    try:
        did = yield from _complete_check_run(api, notice, findings)
    except CannotNotify as error:
        if not error.is_unclear:
            raise
        did = yield from _complete_check_run(api, notice, findings)  # which first looks what is there now
    return did, None


def _complete_check_run(api: _Api, notice: Notice, findings: Findings) -> Generator[Request, Response, Sequence[str]]:
    wanted = annotate(notice, findings)
    found = yield from _find_check_run(api, notice)
    if found is None:
        found = yield from _create_check_run(api, notice, findings, wanted[:ANNOTATIONS_PER_REQUEST])
    elif found.is_completed and found.annotations >= len(wanted):
        return ()
    elif found.annotations >= len(wanted):
        yield from _update_check_run(api, found.id, notice, findings, ())
    for start in range(found.annotations, len(wanted), ANNOTATIONS_PER_REQUEST):
        batch = wanted[start : start + ANNOTATIONS_PER_REQUEST]
        yield from _update_check_run(api, found.id, notice, findings, batch)
    return ("wrote the check run",)


@dataclass(frozen=True, kw_only=True)
class _CheckRun:
    id: int
    is_completed: bool
    annotations: int


def _find_check_run(api: _Api, notice: Notice) -> Generator[Request, Response, _CheckRun | None]:
    """The check run of this very job, if an earlier try or the job's start made it."""
    name = quote(_check_name(notice), safe="")
    response = yield api.get(
        f"/commits/{api.target.head_sha}/check-runs?check_name={name}&filter=all&per_page={PER_PAGE}"
    )
    listed = require_success(response, doing="read the commit's check runs").json()
    runs = listed.get("check_runs") if isinstance(listed, dict) else None
    for run in runs if isinstance(runs, list) else []:
        if isinstance(run, dict) and run.get("external_id") == notice.job_id and isinstance(run.get("id"), int):
            output = run.get("output")
            count = output.get("annotations_count") if isinstance(output, dict) else 0
            return _CheckRun(
                id=run["id"],
                is_completed=run.get("status") == "completed",
                annotations=count if isinstance(count, int) else 0,
            )
    return None


def _create_check_run(
    api: _Api, notice: Notice, findings: Findings, batch: Sequence[Annotation]
) -> Generator[Request, Response, _CheckRun]:
    fields = _check_run_fields(notice, findings, batch)
    response = yield api.send("POST", "/check-runs", {**fields, "head_sha": api.target.head_sha}, repeatable=False)
    created = require_success(response, doing="write the check run").json()
    if not isinstance(created, dict) or not isinstance(created.get("id"), int):
        raise CannotNotify("GitHub answered without an id. It is tried again later.", retryable=True)
    return _CheckRun(id=created["id"], is_completed=True, annotations=len(batch))


def _update_check_run(
    api: _Api, run_id: int, notice: Notice, findings: Findings, batch: Sequence[Annotation]
) -> Generator[Request, Response, None]:
    fields = _check_run_fields(notice, findings, batch)
    # Not repeatable: the annotations of a request that did arrive would stand there twice.
    response = yield api.send("PATCH", f"/check-runs/{run_id}", fields, repeatable=not batch)
    require_success(response, doing="complete the check run")


def _check_run_fields(notice: Notice, findings: Findings, batch: Sequence[Annotation]) -> dict[str, Any]:
    address = linkable(notice.url)
    return {
        "name": _check_name(notice),
        "external_id": notice.job_id,
        "status": "completed",
        "conclusion": CONCLUSIONS.get(notice.conclusion, "neutral"),
        **({"details_url": address} if address else {}),
        "output": {
            "title": cut(title_line(notice, findings), CHECK_TITLE_CHARS),
            "summary": report(notice, findings, budget=CHECK_SUMMARY),
            "annotations": _annotation_fields(batch),
        },
    }


def _annotation_fields(batch: Sequence[Annotation]) -> list[dict[str, Any]]:
    return [
        {
            "path": one.path,
            "start_line": one.line,
            "end_line": one.line,
            "annotation_level": one.level,
            "title": one.title,
            "message": one.message,
        }
        for one in batch
    ]


def _commit_status(api: _Api, notice: Notice, findings: Findings) -> Step:
    if api.target.head_sha is None or not api.target.commit_status:
        return (), None
    address = linkable(notice.url)
    response = yield api.send(
        "POST",
        f"/statuses/{api.target.head_sha}",
        {
            "state": STATES.get(notice.conclusion, "error"),
            "context": _check_name(notice),
            "description": cut(title_line(notice, findings), STATUS_DESCRIPTION_CHARS),
            **({"target_url": address} if address else {}),
        },
    )
    require_success(response, doing="set the commit's status")
    return ("set the commit's status",), None


def _check_name(notice: Notice) -> str:
    """The same for each run of a package's suite, so that a branch can require it."""
    return cut(f"prpm / {one_line(notice.package)} / {one_line(notice.suite)}", STATUS_CONTEXT_CHARS)
