"""GitLab's REST API as far as is reported to it: notes of merge requests and commit statuses, held to the contract.

Commit statuses go from one state to the next as on real instances: https://docs.gitlab.com/api/commits/ says which
states there are, and a state that cannot follow is a 400. One that is pending or running is the same status until it
ends; what comes after its end is another one of the same name.
"""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.standins.gitlab_contract import answered, refused, require
from tests.standins.web import Answer, Seen, StandIn

# Which state may follow which, and what GitLab calls the step. A new status is `created`.
STEPS = {
    "pending": ("enqueue", ("created",)),
    "running": ("run", ("created", "pending")),
    "skipped": ("skip", ("created", "pending")),
    "success": ("success", ("created", "pending", "running")),
    "failed": ("drop", ("created", "pending", "running")),
    "canceled": ("cancel", ("created", "pending", "running")),
}
LIVE = ("pending", "running")


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
        self.repeats_refused = False  # ended states are refused a second time, too
        self.knows_skipped = True  # servers before 17.6 do not
        self.request_numbers: set[int] = {12}
        self.request_of: dict[int, int] = {}  # note -> merge request

    def add_note(self, login: str, body: str, *, request: int = 12) -> int:
        """A note by somebody."""
        number = next(self.ids)
        self.request_of[number] = request
        self.notes[number] = {
            "id": number, "type": None, "body": body, "author": {"id": 1, "username": login, "state": "active"},
            "created_at": "2026-11-23T10:00:00.000Z", "updated_at": "2026-11-23T10:00:00.000Z", "system": False,
            "noteable_type": "MergeRequest", "noteable_iid": request, "resolvable": False, "internal": False,
        }  # fmt: skip
        return number

    def ours(self, *, request: int | None = None) -> list[str]:
        return [
            note["body"]
            for number, note in self.notes.items()
            if note["author"]["username"] == self.login and request in (None, self.request_of[number])
        ]

    def answer(self, seen: Seen) -> Answer:
        operation = require(seen)
        if seen.headers.get("authorization") != f"Bearer {self.token}":
            raise refused(401, "401 Unauthorized")
        if operation.name == "getCurrentUser":
            return Answer(body={"id": 1, "username": self.login})
        prefix = "/api/v4/projects/acme%2Fprompts"  # the slash of a path has to be encoded
        if not seen.path.startswith(prefix + "/"):
            return _not_found()
        return answered(operation, self.answer_about_project(seen, seen.path.removeprefix(prefix)))

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
        size, page = int(seen.query.get("per_page", 20)), int(seen.query.get("page", 1))
        of_request = [note for number, note in self.notes.items() if self.request_of[number] == int(request)]
        found = sorted(of_request, key=lambda note: note["id"], reverse=seen.query.get("sort") != "asc")
        return Answer(body=found[(page - 1) * size : page * size])

    def _require_body(self, seen: Seen) -> str:
        body = seen.json()
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
            raise refused(403, "the note is another's")
        self.notes[int(number)]["body"] = self._require_body(seen)
        return Answer(body=self.notes[int(number)])

    def _delete(self, seen: Seen, request: str, number: str) -> Answer:
        if self.request_of.get(int(number)) != int(request) or int(number) not in self.notes:
            return _not_found()
        if self.notes[int(number)]["author"]["username"] != self.login:
            raise refused(403, "the note is another's")
        del self.notes[int(number)]
        return Answer(status=204)

    def _last(self, sha: str, name: str) -> dict[str, Any] | None:
        return next((one for one in reversed(self.statuses) if (one["sha"], one["name"]) == (sha, name)), None)

    def _set_status(self, seen: Seen, sha: str) -> Answer:
        body = seen.json()
        if body["state"] == "skipped" and not self.knows_skipped:
            return Answer(status=400, body={"error": "state does not have a valid value"})
        name, ref = body.get("name") or body.get("context") or "default", body.get("ref")
        last = self._last(sha, name)
        live = last["state"] if last is not None and last["state"] in LIVE else None
        step, before = STEPS[body["state"]]
        now = live or (last["state"] if last is not None and self.repeats_refused else "created")
        if now not in before:
            why = f'Status cannot transition via "{step}"'
            return Answer(
                status=400, body={"message": f"Cannot transition status via :{step} from :{now} (Reason(s): {why})"}
            )
        new = {
            "id": last["id"] if last is not None and live else next(self.ids), "sha": sha, "ref": ref or "feature",
            "name": name, "state": body["state"], "description": body.get("description"),
            "target_url": body.get("target_url"),
        }  # fmt: skip
        self.statuses.append(new)
        shown = {key: value for key, value in new.items() if key != "state"}
        return Answer(status=201, body=shown | {"status": new["state"]})


def _not_found() -> Answer:
    return Answer(status=404, body={"message": "404 Not found"})
