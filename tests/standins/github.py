"""GitHub's REST API as far as it is used: comments, check runs, statuses, changed files. Stricter than the real one.

Bodies are closed, a missing User-Agent or version header is refused, and the limits hold in the measure in which they
are enforced (the summary of a check in bytes).
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.standins.web import Answer, Refused, Seen, StandIn, closed, is_whole_number, one_of, text

VERSIONS = ("2022-11-28", "2026-03-10")
SHA = re.compile(r"[0-9a-f]{40}")
COMMENT_CHARS, COMMENT_BYTES = 65_536, 262_144
OUTPUT_BYTES = 65_535


class GitHub(StandIn):
    """One repository, `owner/name`, with pull request 12. `comments` and `check_runs` are its state, by id."""

    repository = "acme/prompts"
    token = "ghs_" + "t" * 60

    def __init__(self) -> None:
        super().__init__()
        self.login = "prpm-testing[bot]"
        self.comments: dict[int, dict[str, Any]] = {}
        self.check_runs: dict[int, dict[str, Any]] = {}
        self.annotations: dict[int, list[dict[str, Any]]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.ids = itertools.count(1001)
        self.files: list[str] = []  # what the pull request, or the push, changes
        self.read_only: tuple[str, ...] = ()  # parts of a path that the token may not write to
        self.pull_numbers: set[int] = {12}
        self.pull_of: dict[int, int] = {}  # comment -> pull request
        self.app_id = 15368  # whose check runs these are
        self.check_history: dict[int, list[tuple[str, str | None]]] = {}  # status and conclusion after each write

    def add_comment(self, login: str, body: str, *, pull: int = 12) -> int:
        """A comment by somebody."""
        number = next(self.ids)
        self.pull_of[number] = pull
        self.comments[number] = {
            "id": number,
            "user": {"login": login, "type": "Bot" if login.endswith("[bot]") else "User"},
            "body": body,
            "html_url": f"https://github.com/{self.repository}/pull/{pull}#issuecomment-{number}",
        }
        return number

    def ours(self, *, pull: int | None = None) -> list[str]:
        """Bodies of the comments by our login, on one pull request or on all."""
        return [
            comment["body"]
            for number, comment in self.comments.items()
            if comment["user"]["login"] == self.login and pull in (None, self.pull_of[number])
        ]

    def add_check_run(self, name: str, sha: str, *, external_id: str, app_id: int) -> int:
        """A check run of somebody's App."""
        number = next(self.ids)
        self.annotations[number] = []
        self.check_history[number] = [("queued", None)]
        self.check_runs[number] = {
            "id": number, "name": name, "head_sha": sha, "external_id": external_id, "status": "queued",
            "output": {"title": "", "summary": ""}, "app": {"id": app_id},
        }  # fmt: skip
        return number

    def answer(self, seen: Seen) -> Answer:
        self._check_headers(seen)
        if seen.path == "/graphql" and seen.method == "POST":
            return self._graphql(seen)
        return self.answer_about_repository(seen)

    def answer_about_repository(self, seen: Seen) -> Answer:
        """What a request with a good token is answered."""
        prefix = f"/repos/{self.repository}"
        if not seen.path.startswith(prefix + "/"):
            return _not_found()
        path = seen.path.removeprefix(prefix)
        if seen.method != "GET" and any(part in path for part in self.read_only):
            return Answer(status=403, body={"message": "Resource not accessible by integration"})
        routes = (
            ("GET", r"/issues/(\d+)/comments", self._list_comments),
            ("POST", r"/issues/(\d+)/comments", self._create_comment),
            ("PATCH", r"/issues/comments/(\d+)", self._edit_comment),
            ("DELETE", r"/issues/comments/(\d+)", self._delete_comment),
            ("GET", r"/commits/([0-9a-f]{40})/check-runs", self._list_check_runs),
            ("POST", r"/check-runs", self._create_check_run),
            ("PATCH", r"/check-runs/(\d+)", self._update_check_run),
            ("POST", r"/statuses/([0-9a-f]{40})", self._create_status),
            ("GET", r"/pulls/12/files", self._list_files),
            ("GET", r"/compare/([0-9a-f]{40}|main)\.\.\.([0-9a-f]{40})", self._compare),  # a commit, or a branch
        )
        for method, pattern, handle in routes:
            if seen.method == method and (found := re.fullmatch(pattern, path)):
                return handle(seen, *found.groups())
        return _not_found()

    def _check_headers(self, seen: Seen) -> None:
        if not seen.headers.get("user-agent") or seen.headers["user-agent"].startswith(
            ("Python-urllib", "python-httpx")
        ):
            raise _refused(403, "no User-Agent of our own")
        if seen.headers.get("x-github-api-version") not in VERSIONS:
            raise _refused(410, "no or an unknown X-GitHub-Api-Version")
        if seen.headers.get("accept") != "application/vnd.github+json":
            raise _refused(415, "Accept is not GitHub's media type")
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            raise _refused(401, "Bad credentials")
        if seen.body and seen.headers.get("content-type") != "application/json":
            raise _refused(415, "a body that is not JSON")

    def _graphql(self, seen: Seen) -> Answer:
        """Who the token writes as: the one query that installation tokens can ask about themselves."""
        _require(closed(seen.json(), {"query": one_of("query { viewer { login } }")}, required=("query",)))
        return Answer(body={"data": {"viewer": {"login": self.login}}})

    def _list_files(self, seen: Seen) -> Answer:
        size, page = self._page(seen, set())
        shown = self.files[(page - 1) * size : page * size]
        return Answer(body=[{"filename": name, "status": "modified"} for name in shown])

    def _compare(self, seen: Seen, base: str, head: str) -> Answer:
        self._page(seen, set())
        return Answer(body={"files": [{"filename": name, "status": "modified"} for name in self.files[:300]]})

    def _page(self, seen: Seen, allowed: set[str]) -> tuple[int, int]:
        if unknown := set(seen.query) - {"per_page", "page"} - allowed:
            raise _refused(422, f"unknown query parameters {sorted(unknown)}")
        size, page = int(seen.query.get("per_page", 30)), int(seen.query.get("page", 1))
        if not 1 <= size <= 100:
            raise _refused(422, "per_page over 100")
        return size, page

    def _list_comments(self, seen: Seen, pull: str) -> Answer:
        size, page = self._page(seen, {"since"})
        if int(pull) not in self.pull_numbers:
            return _not_found()
        found = [self.comments[number] for number in sorted(self.comments) if self.pull_of[number] == int(pull)]
        shown = found[(page - 1) * size : page * size]
        more = {"Link": f'<{self.url}/x?page={page + 1}>; rel="next"'} if page * size < len(found) else {}
        return Answer(body=shown, headers=more)

    def _require_comment(self, seen: Seen) -> str:
        body = seen.json()
        _require(closed(body, {"body": text(COMMENT_CHARS, max_bytes=COMMENT_BYTES)}, required=("body",)))
        return str(body["body"])

    def _create_comment(self, seen: Seen, pull: str) -> Answer:
        if int(pull) not in self.pull_numbers:
            return _not_found()
        number = self.add_comment(self.login, self._require_comment(seen), pull=int(pull))
        return Answer(status=201, body=self.comments[number])

    def _edit_comment(self, seen: Seen, number: str) -> Answer:
        if int(number) not in self.comments:
            return _not_found()
        if self.comments[int(number)]["user"]["login"] != self.login:
            raise _refused(403, "the comment is another's")
        self.comments[int(number)]["body"] = self._require_comment(seen)
        return Answer(body=self.comments[int(number)])

    def _delete_comment(self, seen: Seen, number: str) -> Answer:
        if int(number) not in self.comments:
            return _not_found()
        if self.comments[int(number)]["user"]["login"] != self.login:
            raise _refused(403, "the comment is another's")
        del self.comments[int(number)]
        return Answer(status=204)

    def _list_check_runs(self, seen: Seen, sha: str) -> Answer:
        size, page = self._page(seen, {"check_name", "filter", "status", "app_id"})
        found = [
            {**run, "output": {**run.get("output", {}), "annotations_count": len(self.annotations[number])}}
            for number, run in sorted(self.check_runs.items(), reverse=True)
            if run["head_sha"] == sha
            and run["name"] == seen.query.get("check_name", run["name"])
            and seen.query.get("app_id", str(self._app_of(run))) == str(self._app_of(run))
        ]
        shown = found[(page - 1) * size : page * size]
        return Answer(body={"total_count": len(found), "check_runs": shown})

    def _require_check_run(self, seen: Seen, *, is_new: bool) -> dict[str, Any]:
        body = seen.json()
        fields = {
            "name": text(1_000),
            "head_sha": lambda value: is_new and bool(SHA.fullmatch(value)),
            "details_url": _is_url,
            "external_id": text(1_000),
            "status": one_of("queued", "in_progress", "completed"),
            "started_at": text(40),
            "completed_at": text(40),
            "conclusion": one_of(
                "action_required", "cancelled", "failure", "neutral", "success", "skipped", "timed_out"
            ),
            "output": lambda value: not _wrong_output(value, is_new=is_new),
            "actions": lambda value: isinstance(value, list) and len(value) <= 3 and not any(map(_wrong_action, value)),
        }
        _require(closed(body, fields, required=("name", "head_sha") if is_new else ()))
        if "output" in body:
            _require(_wrong_output(body["output"], is_new=is_new))
        if body.get("status") == "completed" and "conclusion" not in body:
            raise _refused(422, "completed without a conclusion")
        if body.get("status") != "completed" and "conclusion" in body:
            raise _refused(422, "a conclusion without completed: the real one completes it by itself")
        return dict(body)

    def _create_check_run(self, seen: Seen) -> Answer:
        body = self._require_check_run(seen, is_new=True)
        number = next(self.ids)
        self.annotations[number] = body.get("output", {}).pop("annotations", [])
        self.check_runs[number] = {"id": number, "status": "queued", "app": {"id": self.app_id}, **body}
        self._note_check(number)
        return Answer(status=201, body=self.check_runs[number])

    def _update_check_run(self, seen: Seen, number: str) -> Answer:
        if int(number) not in self.check_runs:
            return _not_found()
        run = self.check_runs[int(number)]
        if self._app_of(run) != self.app_id:
            raise _refused(403, "Invalid app_id: the check run is another App's")
        body = self._require_check_run(seen, is_new=False)
        if run["status"] == "completed" and body.get("status", "completed") != "completed":
            # What people report of the real one: status and conclusion stay as they were.
            raise _refused(422, "a check run that was completed is not opened again: make another one")
        self.annotations[int(number)] += body.get("output", {}).pop("annotations", [])  # appended, as the real one does
        output = {**run.get("output", {}), **body.get("output", {})}
        run |= {**body, **({"output": output} if output else {})}
        self._note_check(int(number))
        return Answer(body=run)

    def _app_of(self, run: dict[str, Any]) -> int:
        return int(run.get("app", {"id": self.app_id})["id"])

    def _note_check(self, number: int) -> None:
        run = self.check_runs[number]
        self.check_history.setdefault(number, []).append((run["status"], run.get("conclusion")))

    def _create_status(self, seen: Seen, sha: str) -> Answer:
        body = seen.json()
        fields = {
            "state": one_of("error", "failure", "pending", "success"),
            "target_url": _is_url,
            "description": text(140),
            "context": text(255),
        }
        _require(closed(body, fields, required=("state",)))
        self.statuses.append({"sha": sha, **body})
        return Answer(status=201, body={"id": next(self.ids), **body})


def _wrong_output(output: Any, *, is_new: bool) -> list[str]:
    fields = {
        "title": text(1_000),
        "summary": text(OUTPUT_BYTES, max_bytes=OUTPUT_BYTES),
        "text": text(OUTPUT_BYTES, max_bytes=OUTPUT_BYTES),
        "annotations": lambda value: isinstance(value, list) and len(value) <= 50,
    }
    wrong = closed(output, fields, required=("title", "summary") if is_new else ("summary",))
    for annotation in output.get("annotations", []) if isinstance(output, dict) else []:
        wrong += closed(
            annotation,
            {
                "path": text(4_096),
                "start_line": lambda value: is_whole_number(value) and value >= 1,
                "end_line": is_whole_number,
                "start_column": is_whole_number,
                "end_column": is_whole_number,
                "annotation_level": one_of("notice", "warning", "failure"),
                "message": text(65_536, max_bytes=65_536),
                "title": text(255),
                "raw_details": text(65_536, max_bytes=65_536),
            },
            required=("path", "start_line", "end_line", "annotation_level", "message"),
        )
    return wrong


def _wrong_action(action: Any) -> list[str]:
    fields = {"label": text(20), "description": text(40), "identifier": text(20)}
    return closed(action, fields, required=("label", "description", "identifier"))


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"https?://[\x21-\x7e]+", value))


def _require(wrong: list[str]) -> None:
    if wrong:
        raise _refused(422, "; ".join(wrong))


def _refused(status: int, why: str) -> Refused:
    return Refused(Answer(status=status, body={"message": why}), why)


def _not_found() -> Answer:
    return Answer(status=404, body={"message": "Not Found"})
