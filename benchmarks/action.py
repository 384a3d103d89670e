"""What the Action's step costs before the service has the job: from the process's start to the accepted submit."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from msgspec import Struct

from benchmarks.tables import Line, Table

ROOT = Path(__file__).parents[1]
ROUNDS = 9
MOST_SECONDS = 0.5
JOB = "7b0c1c3e-2d5a-4b7e-9a44-0d6c5b1f2a10"
SUMMARY = {
    "total_tests": 0, "tests_passed": 0, "tests_failed": 0, "overall_score": 0, "total_duration_ms": 0,
    "total_tokens": 0, "total_cost_usd": 0, "tests_errored": 0, "tests_skipped": 0, "conclusion": "passed",
}  # fmt: skip
ENDED = {"id": JOB, "status": "completed", "results": SUMMARY}
ANSWERS = {
    "/api/v1/package-snapshots": {"snapshot_id": "1", "package": {"name": "@a/b"}},
    "/api/v1/test-jobs/run": {"job_id": JOB},
    f"/api/v1/test-jobs/{JOB}": ENDED,
    f"/api/v1/test-jobs/{JOB}/results": {"test_cases": [], "summary": SUMMARY, "engine_version": "1"},
}


class Run(Struct, frozen=True):
    """One step: seconds to the accepted submit, and of CPU time in all."""

    submitted: float
    cpu: float


def measure() -> Table:
    """The step as a runner has it the first time (nothing compiled), by turns with an interpreter that does nothing."""
    with tempfile.TemporaryDirectory(prefix="prpm-bench-") as name, service() as url:
        folder = Path(name)
        for room in ("action_entry", "notifiers"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "examples" / "hello", folder / "workspace")
        runs: list[Run] = []
        controls: list[Run] = []
        for _ in range(ROUNDS):
            runs.append(step(folder, url))
            controls.append(nothing())
    return table(runs, controls)


def table(runs: list[Run], controls: list[Run]) -> Table:
    """The figures as promised."""
    cpu = statistics.median(run.cpu for run in runs)
    return Table(
        title="action",
        how=f"`python3 -I -S -B action_entry/__main__.py` on `examples/hello`, nothing compiled, {ROUNDS} rounds; "
        "a service that answers at once.",
        lines=(
            Line(
                what="start to accepted submit",
                measured=statistics.median(run.submitted for run in runs),
                against="`python3 -I -S -c pass`",
                control=statistics.median(one.submitted for one in controls),
                unit="s",
                bound=f"≤ {MOST_SECONDS:g} s",
                holds=min(run.submitted for run in runs) <= MOST_SECONDS,
            ),
            Line(
                what="CPU time of the whole step",
                measured=cpu,
                against="`python3 -I -S -c pass`",
                control=statistics.median(one.cpu for one in controls),
                unit="s",
                bound=f"≤ {MOST_SECONDS:g} s",
                holds=cpu <= MOST_SECONDS,
            ),
        ),
        notes=("The first bound is held by the best round, as a busy machine makes any start slow.",),
    )


def step(folder: Path, url: str) -> Run:
    """One step in a process of its own. Its own line says when it had submitted."""
    environ = {"PRPM_SERVER_URL": url, "PRPM_API_TOKEN": "none", "PATH": os.environ["PATH"]}
    command = [sys.executable, "-I", "-S", "-B", str(folder / "action_entry" / "__main__.py")]
    with subprocess.Popen(
        command, cwd=folder / "workspace", env=environ, stdout=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"the step failed: {said}")
    line = next(line for line in said.splitlines() if "submitted after" in line)
    return Run(float(line.rpartition("after ")[2].split()[0]), usage.ru_utime + usage.ru_stime)


def nothing() -> Run:
    """An interpreter that does nothing, from its start to its end."""
    started = time.perf_counter()
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "pass"]) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    return Run(time.perf_counter() - started, usage.ru_utime + usage.ru_stime)


@contextmanager
def service() -> Iterator[str]:
    """Canned answers. Its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Answers each path with its JSON."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        answer = ANSWERS.get(self.path)
        body = json.dumps(answer if answer is not None else {"error": "none"}).encode()
        self.send_response(200 if answer is not None else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing is printed."""
