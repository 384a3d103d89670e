"""GitLab's REST API as far as it is used: notes of merge requests and commit statuses, with closed bodies."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.standins.web import Answer, Refused, Seen, StandIn, closed, one_of, text


class GitLab(StandIn):
    """One project, `acme/prompts`, with merge request 12. `notes` and `statuses` are its state."""

    project = "acme/prompts"
    token = "glpat-" + "t" * 20

    def __init__(self) -> None:
        super().__init__()
        self.login = "project_7_bot_1a2b"
        self.notes: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.ids = itertools.count(501)
        self.repeats_refused = False  # as real instances do for a state that is there already
        self.request_numbers: set[int] = {12}
        self.request_of: dict[int, int] = {}  # note -> merge request

    def add_note(self, login: str, body: str, *, request: int = 12) -> int:
        """A note by somebody."""
        number = next(self.ids)
        self.request_of[number] = request
        self.notes[number] = {"id": number, "author": {"username": login}, "body": body, "system": False}
        return number

    def ours(self, *, request: int | None = None) -> list[str]:
        return [
            note["body"]
            for number, note in self.notes.items()
            if note["author"]["username"] == self.login and request in (None, self.request_of[number])
        ]

    def answer(self, seen: Seen) -> Answer:
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            raise _refused(401, "Unauthorized")
        if seen.body and seen.headers.get("content-type") != "application/json":
            raise _refused(415, "a body that is not JSON")
        if (seen.method, seen.path) == ("GET", "/api/v4/user"):
            return Answer(body={"id": 1, "username": self.login})
        prefix = "/api/v4/projects/acme%2Fprompts"  # the slash of a path has to be encoded
        if not seen.path.startswith(prefix + "/"):
            return _not_found()
        return self.answer_about_project(seen, seen.path.removeprefix(prefix))

    def answer_about_project(self, seen: Seen, path: str) -> Answer:
        """What a request with a good token is answered; `path` begins behind the project."""
        routes = (
            ("GET", r"/merge_requests/(\d+)/notes", self._list),
            ("POST", r"/merge_requests/(\d+)/notes", self._create),
            ("PUT", r"/merge_requests/(\d+)/notes/(\d+)", self._edit),
            ("DELETE", r"/merge_requests/(\d+)/notes/(\d+)", self._delete),
            ("POST", r"/statuses/([0-9a-f]{40})", self._set_status),
        )
        for method, pattern, handle in routes:
            if seen.method == method and (found := re.fullmatch(pattern, path)):
                return handle(seen, *found.groups())
        return _not_found()

    def _list(self, seen: Seen, request: str) -> Answer:
        if int(request) not in self.request_numbers:
            return _not_found()
        if unknown := set(seen.query) - {"sort", "order_by", "page", "per_page"}:
            raise _refused(400, f"unknown query parameters {sorted(unknown)}")
        size, page = int(seen.query.get("per_page", 20)), int(seen.query.get("page", 1))
        if not 1 <= size <= 100:
            raise _refused(400, "per_page over 100")
        of_request = [note for number, note in self.notes.items() if self.request_of[number] == int(request)]
        found = sorted(of_request, key=lambda note: note["id"], reverse=seen.query.get("sort") != "asc")
        return Answer(body=found[(page - 1) * size : page * size])

    def _require_body(self, seen: Seen) -> str:
        body = seen.json()
        if wrong := closed(body, {"body": text(1_000_000)}, required=("body",)):
            raise _refused(400, "; ".join(wrong))
        # GitLab acts on such a line with the author's rights.
        if re.search(r"^\s*/[a-z_]+", body["body"], re.MULTILINE):
            self.violations.append(f"quick action: {body['body'][:200]!r}")
        return str(body["body"])

    def _create(self, seen: Seen, request: str) -> Answer:
        if int(request) not in self.request_numbers:
            return _not_found()
        number = self.add_note(self.login, self._require_body(seen), request=int(request))
        return Answer(status=201, body=self.notes[number])

    def _edit(self, seen: Seen, request: str, number: str) -> Answer:
        if self.request_of.get(int(number)) != int(request) or int(number) not in self.notes:
            return _not_found()
        if self.notes[int(number)]["author"]["username"] != self.login:
            raise _refused(403, "the note is another's")
        self.notes[int(number)]["body"] = self._require_body(seen)
        return Answer(body=self.notes[int(number)])

    def _delete(self, seen: Seen, request: str, number: str) -> Answer:
        if self.request_of.get(int(number)) != int(request) or int(number) not in self.notes:
            return _not_found()
        if self.notes[int(number)]["author"]["username"] != self.login:
            raise _refused(403, "the note is another's")
        del self.notes[int(number)]
        return Answer(status=204)

    def _set_status(self, seen: Seen, sha: str) -> Answer:
        body = seen.json()
        fields = {
            "state": one_of("pending", "running", "success", "failed", "canceled", "skipped"),
            "ref": text(255),
            "name": text(255),
            "context": text(255),
            "target_url": text(255),
            "description": text(255),
        }
        if wrong := closed(body, fields, required=("state",)):
            raise _refused(400, "; ".join(wrong))
        new = {"sha": sha, **body}
        if self.repeats_refused and any(old["sha"] == sha and old["state"] == new["state"] for old in self.statuses):
            return Answer(status=400, body={"message": "Cannot transition status via :run from :running"})
        self.statuses.append(new)
        return Answer(status=201, body=new)


def _refused(status: int, why: str) -> Refused:
    return Refused(Answer(status=status, body={"message": why}), why)


def _not_found() -> Answer:
    return Answer(status=404, body={"message": "404 Not found"})
