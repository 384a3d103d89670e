"""A strict stand-in of the service's HTTP contract, for the command's tests: real HTTP, canned answers.

It refuses what the contract refuses (no token, a submit without a key, an unknown field, a wrong content
type), and keeps every request it saw. A test scripts the answers of a route with `set`.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import unquote

TOKEN = "registry-token-of-alice"
JOB_ID = "7f9c2ba4-e88f-4271-9f3a-0c5f6d1e2b3c"
PACKAGE_ID = "0d36a1b2-0000-4000-8000-000000000001"
SNAPSHOT_ID = "5a0c1e2d-0000-4000-8000-000000000002"
RUN_FIELDS = frozenset(
    {
        "package_id",
        "snapshot_id",
        "package_version",
        "models",
        "plugins",
        "framework",
        "upload_results",
        "verify_results",
        "suite",
        "force",
        "max_cost_usd",
        "dry_run",
    }
)


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """One answer. `body` as bytes goes out as it is, else as JSON. `drop` closes the connection instead."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


def a_submitted_job(**changes: Any) -> dict[str, Any]:
    """A submit's answer."""
    usage = {"tests_used_this_month": 23, "tests_remaining": 77, "tier": "plus"}
    return {"job_id": JOB_ID, "status": "queued", "usage": usage} | changes


def a_row(title: str, *, model: str = "claude-sonnet-4", **changes: Any) -> dict[str, Any]:
    """A passed row."""
    assertion = {
        "type": "contains",
        "passed": True,
        "score": 1.0,
        "reason": "Assertion passed",
        "weight": 1.0,
    }
    return {
        "title": title,
        "passed": True,
        "score": 1.0,
        "response": "All fine.",
        "model": model,
        "duration_ms": 1200,
        "assertions": [assertion],
        "state": "passed",
    } | changes


def a_failed_row(title: str, **changes: Any) -> dict[str, Any]:
    """A row with one assertion that did not hold."""
    assertion = {
        "type": "contains",
        "passed": False,
        "score": 0.0,
        "weight": 1.0,
        "reason": 'Expected output to contain "SQL injection"',
    }
    return a_row(
        title,
        passed=False,
        score=0.0,
        response="Looks good to me!",
        assertions=[assertion],
        state="failed",
        **changes,
    )


def an_errored_row(title: str, **changes: Any) -> dict[str, Any]:
    """A row without a verdict."""
    error = {"kind": "provider", "message": "The model answered with HTTP 529 three times."}
    return a_row(title, passed=False, score=0.0, response="", assertions=[], state="error", error=error, **changes)


def a_summary(rows: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """The sums of these rows."""
    states = [row["state"] for row in rows]
    scores = [row["score"] for row in rows if row["state"] in ("passed", "failed")]
    verdict = "failed" if "failed" in states else "passed" if set(states) == {"passed"} else "inconclusive"
    return {
        "total_tests": len(rows),
        "tests_passed": states.count("passed"),
        "tests_failed": len(rows) - states.count("passed"),
        "overall_score": sum(scores) / len(scores) if scores else 0,
        "total_duration_ms": 5200,
        "total_tokens": 3421,
        "total_cost_usd": 0.0012,
        "tests_errored": states.count("error"),
        "tests_skipped": states.count("skipped"),
        "conclusion": verdict,
    } | changes


def a_job(status: str, **changes: Any) -> dict[str, Any]:
    """A job's state."""
    return {
        "id": JOB_ID,
        "status": status,
        "created_at": "2026-01-02T03:04:05Z",
        "config": {"models": ["claude-sonnet-4"]},
        "package": {"id": PACKAGE_ID, "name": "@alice/review", "version": "1.0.2"},
    } | changes


class _Server(ThreadingHTTPServer):
    """As its base, but a client that hangs up is nothing to print on a stderr that tests read."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Service:
    """The stand-in. Use as a context manager; `url` is where it listens."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self._scripts: dict[str, deque[Reply]] = defaultdict(deque)
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        titles = ("Test 1: Review function", "Test 2: Security check", "Test 3: Edge cases")
        self.finish([a_row(title) for title in titles])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def finish(self, rows: list[dict[str, Any]], **summary: Any) -> None:
        """From now on the job is completed, with these rows."""
        sums = a_summary(rows, **summary)
        self.set("GET /api/v1/test-jobs/{id}", Reply(a_job("completed", results=sums)))
        self.set("GET /api/v1/test-jobs/{id}/results", Reply({"test_cases": rows, "summary": sums}))

    def set(self, route: str, *replies: Reply) -> None:
        """Answers of a route, one after the other; the last one stays."""
        with self._lock:
            self._scripts[route] = deque(replies)

    def requests(self, route: str) -> list[Seen]:
        """What came in on a route."""
        return [seen for seen in self.seen if route_of(seen) == route]

    def wait_for(self, route: str, *, timeout_seconds: float = 20.0) -> bool:
        """Whether a request came in on a route in time."""
        with self._arrived:
            return self._arrived.wait_for(lambda: bool(self.requests(route)), timeout_seconds)

    def submitted(self) -> dict[str, Any]:
        """The body of the one submit."""
        (seen,) = self.requests("POST /api/v1/test-jobs/run")
        return dict(seen.json())

    def answer(self, seen: Seen) -> Reply:
        """The scripted answer, else the contract's usual one."""
        route = route_of(seen)
        if refusal := refuse(seen, route):
            return refusal
        with self._lock:
            script = self._scripts[route]
            if script:
                return script[0] if len(script) == 1 else script.popleft()
        return usual_answer(route, base_url=self.url)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                seen = Seen(self.command, self.path, headers, body)
                with service._arrived:
                    service.seen.append(seen)
                    service._arrived.notify_all()
                self.send_reply(service.answer(seen))

            do_GET = do_POST = handle_any  # noqa: N815 - names of http.server

            def send_reply(self, reply: Reply) -> None:
                if reply.drop:
                    self.close_connection = True
                    self.connection.close()
                    return
                is_json = not isinstance(reply.body, bytes)
                body = json.dumps(reply.body).encode() if is_json else reply.body
                self.send_response(reply.status)
                kind = "application/json" if is_json else "text/html"
                for name, value in ({"content-type": kind} | reply.headers).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def route_of(seen: Seen) -> str:
    """The request's route with its variable parts replaced."""
    parts = seen.path.partition("?")[0].split("/")
    if seen.path.startswith("/api/v1/test-jobs/") and parts[4] != "run":
        parts[4] = "{id}"
    if seen.path.startswith("/api/v1/packages/"):
        parts[4] = "{name}"
        if len(parts) == 6 and parts[5] != "test-cases" and not parts[5].endswith(".tar.gz"):
            parts[5] = "{version}"
    return f"{seen.method} {'/'.join(parts)}"


def refuse(seen: Seen, route: str) -> Reply | None:
    """What the contract refuses before anything is looked up."""
    public = route.startswith("GET /api/v1/packages/") or route == "GET /api/v1/models"
    if not public and seen.headers.get("authorization") != f"Bearer {TOKEN}":
        return Reply({"error": "Unauthorized", "code": "unauthorized"}, status=401)
    checks = {
        "POST /api/v1/test-jobs/run": refuse_submit,
        "POST /api/v1/package-snapshots": refuse_snapshot,
    }
    return checks[route](seen) if route in checks else None


def refuse_submit(seen: Seen) -> Reply | None:
    """A submit is JSON, carries a key unless it is an estimate, and has no field that the contract does not know."""
    if seen.headers.get("content-type") != "application/json":
        return Reply({"error": "Send JSON.", "code": "unsupported_media_type"}, status=415)
    if not seen.headers.get("idempotency-key") and seen.json().get("dry_run") is not True:
        return Reply({"error": "Send an Idempotency-Key.", "code": "invalid"}, status=400)
    unknown = set(seen.json()) - RUN_FIELDS
    if unknown or len({"package_id", "snapshot_id"} & set(seen.json())) != 1:
        return Reply({"error": "Invalid request.", "details": sorted(unknown)}, status=400)
    return None


def refuse_snapshot(seen: Seen) -> Reply | None:
    """A snapshot is gzip data and says so."""
    if seen.headers.get("content-type") != "application/gzip":
        return Reply({"error": "Send a .tar.gz.", "code": "unsupported_media_type"}, status=415)
    try:
        gzip.decompress(seen.body)
    except (OSError, EOFError):
        return Reply({"error": "This is no gzip data.", "code": "invalid_package"}, status=400)
    return None


def usual_answer(route: str, *, base_url: str) -> Reply:
    """What the service says when nothing special is going on."""
    package = {"id": PACKAGE_ID, "name": "@alice/review", "version": "1.0.2"}
    version = {"version": "1.0.2", "tarball_url": f"{base_url}/api/v1/packages/{{name}}/1.0.2.tar.gz"}
    answers: dict[str, Any] = {
        "GET /api/v1/packages/{name}": {"id": PACKAGE_ID, "name": "@alice/review", "latest_version": version},
        "GET /api/v1/packages/{name}/{version}": version,
        "POST /api/v1/package-snapshots": {"snapshot_id": SNAPSHOT_ID, "package": package, "created": True},
        "POST /api/v1/test-jobs/{id}/cancel": a_job("running"),
        "GET /api/v1/user": {"id": "u1", "username": "alice", "email": "alice@example.org"},
        "GET /api/v1/users/me/test-usage": {
            "current_month": {"test_runs_count": 23, "tokens_used": 3421, "cost_usd": 0.0012},
            "limits": {"tier": "plus", "test_runs_per_month": 100, "concurrent_jobs": 2},
            "remaining": {"test_runs": 77},
        },
        "GET /api/v1/models": {
            "models": [
                {"name": "gpt-4-turbo", "default": False, "reachable": False, "retired": "2026-10-23"},
                {
                    "name": "claude-sonnet-4",
                    "default": True,
                    "reachable": True,
                    "tools": True,
                    "price": {"input": 3, "output": 15},
                    "retired": "2026-06-15",
                    "successor": "claude-sonnet-4-6",
                },
            ]
        },
    }
    if route == "POST /api/v1/test-jobs/run":
        return Reply(a_submitted_job(position_in_queue=2, estimated_wait_seconds=15), status=202)
    if route not in answers:
        return Reply({"error": "Not found", "code": "not_found"}, status=404)
    return Reply(answers[route])


def package_name(seen: Seen) -> str:
    """The name in a package route's one encoded segment."""
    return unquote(seen.path.split("/")[4])
