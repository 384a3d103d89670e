"""The testing service as the Action meets it: strict about requests, with canned results and faults on demand."""

from __future__ import annotations

import io
import json
import re
import tarfile
import uuid
from collections.abc import Mapping
from typing import Any

from tests.standins.service import a_failed_row, a_row, a_summary
from tests.standins.web import Answer, Refused, Seen, StandIn, closed, is_whole_number, one_of, text

TOKEN = "prpm_token-of-the-workflow"
SHORT_TOKEN = "prpm_token-for-fifteen-minutes"
ID_TOKEN = "eyJ.id-token.of-the-run"
MARKER = "ab" * 32
NOON = "2026-11-22T12:00:00.000Z"
_SHA = re.compile(r"[0-9a-f]{40}")


class HostedTesting(StandIn):
    """Jobs end at once, unless `is_slow`. `rows` is what the next job has as its results."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = [a_row("Says hello"), a_row("Says goodbye")]
        self.summary: dict[str, Any] = {}
        self.comparison: dict[str, Any] | None = None
        self.gate: dict[str, Any] | None = None
        self.report: dict[str, Any] | None = {"marker": MARKER, "reporter": "action"}
        self.failure: tuple[str, str] | None = None  # code and sentence: the job ends without results
        self.is_slow = False
        self.has_events = True
        self.knows: Mapping[str, str] = {"suite_path": "prpm.test.yaml"}
        self.package = "@acme/greeter"
        self.warnings: list[str] = []
        self.short_calls = 1_000_000  # calls after which the first short token has ended
        self.snapshots: dict[str, dict[str, bytes]] = {}
        self.kept: dict[str, tuple[str, str]] = {}  # of snapshots: the package's name, and for which account it is
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, tuple[bytes, str]] = {}
        self.cancelled: list[str] = []
        self.exchanged: list[str] = []
        self.registered = True

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/api/v1/auth/oidc/exchange":
            return self._exchange(seen)
        try:
            self._require_token(seen)
        except _Ended:
            return _said(401, "The token has ended.", "unauthorized")
        routes = (
            ("POST", r"/api/v1/package-snapshots", self._snapshot),
            ("POST", r"/api/v1/test-jobs/run", self._run),
            ("GET", r"/api/v1/test-jobs/([0-9a-f-]{36})", self._job),
            ("GET", r"/api/v1/test-jobs/([0-9a-f-]{36})/events", self._events),
            ("GET", r"/api/v1/test-jobs/([0-9a-f-]{36})/results", self._results),
            ("GET", r"/api/v1/test-jobs/([0-9a-f-]{36})/report\.(xml|md|html)", self._report),
            ("POST", r"/api/v1/test-jobs/([0-9a-f-]{36})/cancel", self._cancel),
        )
        for method, pattern, handle in routes:
            if seen.method == method and (found := re.fullmatch(pattern, seen.path)):
                return handle(seen, *found.groups())
        return _said(404, "Not found", "not_found")

    def submitted(self) -> list[dict[str, Any]]:
        """The bodies of all submits."""
        return [seen.json() for seen in self.log if seen.path.endswith("/run")]

    def _require_token(self, seen: Seen) -> None:
        given = seen.headers.get("authorization", "")
        if given == f"Bearer {TOKEN}":
            return
        if given == f"Bearer {SHORT_TOKEN}{len(self.exchanged)}":
            self.short_calls -= 1
            if self.short_calls >= 0 or len(self.exchanged) > 1:
                return
            raise _Ended
        raise Refused(_said(401, "Unauthorized", "unauthorized"), "no or a wrong token")

    def _exchange(self, seen: Seen) -> Answer:
        if seen.headers.get("content-type") != "application/json":
            raise Refused(_said(415, "Send JSON.", "unsupported_media_type"), "not JSON")
        body = seen.json()
        if wrong := closed(body, {"token": text(20_000)}, required=("token",)):
            raise Refused(_said(400, "; ".join(wrong), "invalid"), "; ".join(wrong))
        if body["token"] in self.exchanged:
            raise Refused(_said(401, "This id token was used before.", "replayed"), "one id token twice")
        if not body["token"].startswith(ID_TOKEN):
            raise Refused(_said(401, "This is no id token.", "invalid_token"), "not the id token")
        if not self.registered:
            return _said(403, "This repository belongs to no account. Ask its owner to register it.", "not_trusted")
        self.exchanged.append(body["token"])
        token = f"{SHORT_TOKEN}{len(self.exchanged)}"
        return Answer(body={"token": token, "expires_at": "2026-11-22T12:15:00Z", "account": "acme"})

    def _snapshot(self, seen: Seen) -> Answer:
        if seen.headers.get("content-type") != "application/gzip":
            raise Refused(_said(415, "Send a .tar.gz.", "unsupported_media_type"), "not gzip")
        with tarfile.open(fileobj=io.BytesIO(seen.body), mode="r:gz") as tar:
            files = {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}  # type: ignore[union-attr]
        if unknown := set(seen.query) - {"package", "account"}:
            raise Refused(_said(400, "Unknown parameters.", "invalid_request"), f"unknown query {sorted(unknown)}")
        name = _package_name(files, seen.query.get("package"), otherwise=self.package)
        number = str(uuid.uuid5(uuid.NAMESPACE_URL, repr([name, sorted(files.items())])))
        self.snapshots[number] = files
        self.kept[number] = (name, seen.query.get("account", ""))
        package = {"id": str(uuid.uuid4()), "name": name, "version": "0.0.0-snapshot.1"}
        return Answer(status=201, body={"snapshot_id": number, "package": package, "created": True, **self.knows})

    def _run(self, seen: Seen) -> Answer:
        key = seen.headers.get("idempotency-key", "")
        if not 0 < len(key) <= 255 or not key.isprintable():
            raise Refused(_said(400, "Send an Idempotency-Key.", "invalid_idempotency_key"), "no key")
        body = seen.json()
        if wrong := _wrong_run(body):
            raise Refused(_said(400, "; ".join(wrong), "invalid_request"), "; ".join(wrong))
        if body.get("snapshot_id") and self.kept[body["snapshot_id"]][1] != body.get("account", ""):
            raise Refused(_said(404, "There is no such snapshot.", "package_not_found"), "another account's snapshot")
        if key in self.keys and self.keys[key][0] != seen.body:
            raise Refused(_said(409, "The key was used for another request.", "conflict"), "one key, two bodies")
        if key not in self.keys:
            self.keys[key] = (seen.body, self._new_job(body))
        usage = {"tests_used_this_month": 23, "tests_remaining": 77, "tier": "plus"}
        warnings = {"warnings": self.warnings} if self.warnings else {}
        return Answer(status=202, body={"job_id": self.keys[key][1], "status": "queued", "usage": usage, **warnings})

    def _new_job(self, body: Mapping[str, Any]) -> str:
        event = json.dumps([body.get("change"), body.get("suite_name"), body.get("snapshot_id")], sort_keys=True)
        if "change" in body:
            for job in self.jobs.values():
                if job["event"] == event:
                    return str(job["id"])
        number = str(uuid.uuid4())
        self.jobs[number] = {"id": number, "event": event, "models": body.get("models", ["echo"]), "sent": body}
        return number

    def _job_body(self, number: str) -> dict[str, Any]:
        name, _ = self.kept.get(self.jobs[number]["sent"].get("snapshot_id", ""), (self.package, ""))
        body: dict[str, Any] = {
            "id": number,
            "status": "running" if self.is_slow else "failed" if self.failure else "completed",
            "package": {"id": str(uuid.uuid4()), "name": name, "version": "1.0.0"},
            "config": {"models": self.jobs[number]["models"]},
            "created_at": NOON,
        }
        if self.report is not None and "change" in self.jobs[number]["sent"]:
            body["report"] = self.report
        if self.is_slow:
            return body
        if self.failure:
            return body | {"code": self.failure[0], "error": self.failure[1]}
        return body | {"completed_at": NOON, "results": a_summary(self.rows, **self.summary)}

    def _job(self, seen: Seen, number: str) -> Answer:
        return Answer(body=self._job_body(number)) if number in self.jobs else _said(404, "Not found", "not_found")

    def _events(self, seen: Seen, number: str) -> Answer:
        if seen.headers.get("accept") != "text/event-stream":
            raise Refused(_said(406, "Accept events.", "not_acceptable"), "events not accepted")
        if not self.has_events:
            return _said(404, "Not found", "not_found")
        events = [("started", {"attempt": 1, "trials_total": len(self.rows)})]
        if not self.is_slow:
            events += [
                ("trial", {"case": row["title"], "model": row["model"], "state": row["state"], "score": row["score"]})
                for row in self.rows
            ]
            body = self._job_body(number)
            events.append((body["status"], body))
        told = "".join(
            f"id: {place}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for place, (name, data) in enumerate(events, 1)
        )
        return Answer(headers={"Content-Type": "text/event-stream"}, body=told.encode())

    def _results(self, seen: Seen, number: str) -> Answer:
        outcome: dict[str, Any] = {
            "test_cases": self.rows,
            "summary": a_summary(self.rows, **self.summary),
            "engine_version": "1",
        }
        if self.comparison is not None:
            outcome["comparison"] = self.comparison
        if self.gate is not None:
            outcome["gate"] = self.gate
        return Answer(body=outcome)

    def _report(self, seen: Seen, number: str, ending: str) -> Answer:
        return Answer(headers={"Content-Type": "text/plain"}, body=f"the report as {ending}".encode())

    def _cancel(self, seen: Seen, number: str) -> Answer:
        self.cancelled.append(number)
        return Answer(body=self._job_body(number))


class _Ended(Exception):
    """A token has ended, which is no violation: the caller could not know."""


def _package_name(files: Mapping[str, bytes], chosen: str | None, *, otherwise: str) -> str:
    """The package that is kept, of those in the manifest. Raises Refused for several without a choice."""
    manifest = json.loads(files.get("prpm.json", b"{}"))
    names = [entry["name"] for entry in manifest.get("packages", [manifest]) if "name" in entry]
    if chosen is not None and chosen in (names or [chosen]):
        return chosen
    if chosen is not None or len(names) > 1:
        raise Refused(_said(400, "Say which package.", "invalid_package"), "no, or no such package of several")
    return names[0] if names else otherwise


def _wrong_run(body: Any) -> list[str]:
    fields = {
        "package_id": text(300),
        "package_version": text(100),
        "snapshot_id": text(64),
        "models": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
        "plugins": lambda value: isinstance(value, list),
        "framework": one_of("litellm", "claude-agent", "auto"),
        "suite": lambda value: isinstance(value, dict),
        "suite_name": lambda value: bool(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}", str(value))),
        "change": lambda value: not _wrong_change(value),
        "upload_results": one_of(True, False),
        "verify_results": one_of(True, False),
        "baseline": text(300),
        "gate": one_of("regressions", "failures", "never"),
        "min_score": lambda value: isinstance(value, float | int) and 0 <= value <= 1,
        "account": text(100),
    }
    wrong = closed(body, fields)
    if isinstance(body, dict) and ("package_id" in body) == ("snapshot_id" in body):
        wrong.append("give package_id or snapshot_id")
    if isinstance(body, dict) and "change" in body:
        wrong += _wrong_change(body["change"])
    return wrong


def _wrong_change(value: Any) -> list[str]:
    def is_sha(one: Any) -> bool:
        return isinstance(one, str) and bool(_SHA.fullmatch(one))

    fields = {
        "forge": one_of("github", "gitlab"),
        "repository": lambda name: bool(re.fullmatch(r"[\w.-]+(?:/[\w.-]+)+", str(name))),
        "repository_id": lambda number: is_whole_number(number) and number > 0,
        "ref": text(255),
        "head_sha": is_sha,
        "base_ref": text(255),
        "base_sha": is_sha,
        "pull_request": lambda number: is_whole_number(number) and number > 0,
        "cause": text(200),
    }
    return closed(value, fields, required=("forge", "repository", "repository_id", "ref", "head_sha"))


def _said(status: int, sentence: str, code: str) -> Answer:
    return Answer(status=status, headers={"Content-Type": "application/json"}, body={"error": sentence, "code": code})


__all__ = ["ID_TOKEN", "MARKER", "SHORT_TOKEN", "TOKEN", "HostedTesting", "a_failed_row", "a_row"]
