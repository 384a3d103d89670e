"""GitLab's REST API as far as it is used: notes of merge requests and commit statuses, with closed bodies."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.standins.web import Answer, Refused, Seen, StandIn, closed, one_of, text


class GitLab(StandIn):
    """One project, `acme/prompts`, with merge request 12. `notes` is its state, by id."""

    project = "acme/prompts"
    token = "glpat-" + "t" * 20

    def __init__(self) -> None:
        super().__init__()
        self.login = "project_7_bot_1a2b"
        self.notes: dict[int, dict[str, Any]] = {}
        self.statuses: list[dict[str, Any]] = []
        self.ids = itertools.count(501)
        self.repeats_refused = False  # as real instances do for a state that is there already

    def add_note(self, login: str, body: str) -> int:
        """A note by somebody."""
        number = next(self.ids)
        self.notes[number] = {"id": number, "author": {"username": login}, "body": body, "system": False}
        return number

    def ours(self) -> list[str]:
        return [note["body"] for note in self.notes.values() if note["author"]["username"] == self.login]

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
        routes = (
            ("GET", r"/merge_requests/12/notes", self._list),
            ("POST", r"/merge_requests/12/notes", self._create),
            ("PUT", r"/merge_requests/12/notes/(\d+)", self._edit),
            ("DELETE", r"/merge_requests/12/notes/(\d+)", self._delete),
            ("POST", r"/statuses/([0-9a-f]{40})", self._set_status),
        )
        for method, pattern, handle in routes:
            if seen.method == method and (found := re.fullmatch(pattern, seen.path.removeprefix(prefix))):
                return handle(seen, *found.groups())
        return _not_found()

    def _list(self, seen: Seen) -> Answer:
        if unknown := set(seen.query) - {"sort", "order_by", "page", "per_page"}:
            raise _refused(400, f"unknown query parameters {sorted(unknown)}")
        size, page = int(seen.query.get("per_page", 20)), int(seen.query.get("page", 1))
        if not 1 <= size <= 100:
            raise _refused(400, "per_page over 100")
        found = sorted(self.notes.values(), key=lambda note: note["id"], reverse=seen.query.get("sort") != "asc")
        return Answer(body=found[(page - 1) * size : page * size])

    def _require_body(self, seen: Seen) -> str:
        body = seen.json()
        if wrong := closed(body, {"body": text(1_000_000)}, required=("body",)):
            raise _refused(400, "; ".join(wrong))
        # GitLab acts on such a line with the author's rights.
        if re.search(r"^\s*/[a-z_]+", body["body"], re.MULTILINE):
            self.violations.append(f"quick action: {body['body'][:200]!r}")
        return str(body["body"])

    def _create(self, seen: Seen) -> Answer:
        return Answer(status=201, body=self.notes[self.add_note(self.login, self._require_body(seen))])

    def _edit(self, seen: Seen, number: str) -> Answer:
        if int(number) not in self.notes:
            return _not_found()
        if self.notes[int(number)]["author"]["username"] != self.login:
            raise _refused(403, "the note is another's")
        self.notes[int(number)]["body"] = self._require_body(seen)
        return Answer(body=self.notes[int(number)])

    def _delete(self, seen: Seen, number: str) -> Answer:
        if int(number) not in self.notes:
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
