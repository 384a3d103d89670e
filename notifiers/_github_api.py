"""GitHub's REST API as the notifier speaks it: a target, its requests, and the thread of its pull request."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from notifiers._http import LIST_ANSWER_BYTES, USER_AGENT, Request, Response, json_request, require_success
from notifiers._notice import Mode
from notifiers._sticky import Comment, made
from notifiers._text import cut, one_line

API_VERSION = "2022-11-28"
STATUS_CONTEXT_CHARS = 255
PER_PAGE = 100
# 30,000 comments: no pull request has them, so the list never ends for another reason.
MOST_PAGES = 300

_REPOSITORY = re.compile(r"[A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100}")
_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


@dataclass(frozen=True, kw_only=True)
class GitHubTarget:
    """A repository, what to write there, and with which token.

    `author` is the login that the token writes as ("github-actions[bot]" for a workflow's own), `marker` an HMAC in
    hex over (forge, repository, pull request, package, suite). A status knows no neutral: inconclusive is `error`
    there, `neutral` in a check run. `app_id` is the number of the App whose token it is: check runs of others are not
    taken for ours. `offers_rerun`: whoever gets the App's webhooks runs it again when the check's button is pressed.
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
    app_id: int | None = None
    offers_rerun: bool = False

    def __post_init__(self) -> None:
        if not _REPOSITORY.fullmatch(self.repository):
            raise ValueError("repository has to be `owner/name`")
        if self.head_sha is not None and not _SHA.fullmatch(self.head_sha):
            raise ValueError("head_sha has to be a whole commit id")


class Api:
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


def check_name(package: str | None, suite: str) -> str:
    """The same for each run of a package's suite, so that a branch can require it."""
    words = ["prpm", one_line(package), one_line(suite)] if package is not None else ["prpm"]
    return cut(" / ".join(words), STATUS_CONTEXT_CHARS)
