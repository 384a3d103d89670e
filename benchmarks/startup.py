"""What a start costs: `prpm-testing up` beside its database alone, the API's memory and imports, `prpm --help`."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil
from msgspec import Struct

from benchmarks.programs import catalogue, environment, free_port, running, status, wait_until_ready
from benchmarks.tables import Line, Table
from server.embedded import start_postgres

COLD_ROUNDS = 3
WARM_ROUNDS = 5
HELP_ROUNDS = 7
REQUESTS = 100
MOST_BEYOND_INITDB_SECONDS = 2.0
MOST_WARM_SECONDS = 1.5
MOST_MEGABYTES = 80.0
MOST_HELP_SECONDS = 0.3

# The control of its memory: a framework with nothing in it, on the same server.
EMPTY_API = """
import sys, uvloop
from litestar import Litestar
from server.http_server import serve
uvloop.run(serve(Litestar([], openapi_config=None), host="127.0.0.1", port=int(sys.argv[1])))
"""


class DatabaseStart(Struct, frozen=True):
    """Seconds of PostgreSQL alone, the first time (initdb included) and again."""

    initdb: float
    cold: float
    warm: float


class UpStart(Struct, frozen=True):
    """Seconds from the command to the line that says ready, and the API's memory after some requests."""

    seconds: float
    api_megabytes: float | None


def measure() -> Table:
    """Control and contender by turns."""
    with tempfile.TemporaryDirectory(prefix="prpm-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's own user has to pass
        models = catalogue(folder, models=1)
        databases: list[DatabaseStart] = []
        cold: list[UpStart] = []
        for number in range(COLD_ROUNDS):
            databases.append(start_database(folder / f"database-{number}"))
            cold.append(start_up(folder / f"up-{number}", models, requests=REQUESTS))
        warm = [start_up(folder / "up-0", models) for _ in range(WARM_ROUNDS)]
        modules = litellm_modules(folder / "up-0", models)
        empty_megabytes = memory_of_empty_api(folder)
    helps = by_turns(["-m", "cli.main", "--help"], ["-c", "pass"], rounds=HELP_ROUNDS)
    return table(databases, cold, warm, modules=modules, empty_megabytes=empty_megabytes, helps=helps)


def table(
    databases: Sequence[DatabaseStart],
    cold: Sequence[UpStart],
    warm: Sequence[UpStart],
    *,
    modules: Sequence[str],
    empty_megabytes: float,
    helps: Sequence[tuple[float, float]],
) -> Table:
    """The figures as promised."""
    beyond = statistics.median(up.seconds - database.initdb for up, database in zip(cold, databases, strict=True))
    warm_seconds = statistics.median(up.seconds for up in warm)
    megabytes = statistics.median(up.api_megabytes for up in cold if up.api_megabytes is not None)
    help_seconds = statistics.median(seconds for seconds, _ in helps)
    initdb = statistics.median(database.initdb for database in databases)
    return Table(
        title="startup",
        how=f"`prpm-testing up --json` until its line says ready (the API answers, a worker claims), with a models "
        f"file of one echo model; {COLD_ROUNDS} starts in an empty data folder and {WARM_ROUNDS} in one that has data. "
        f"Memory is the resident set of its API after {REQUESTS} requests.",
        lines=(
            Line(
                what="`up`, cold", measured=statistics.median(up.seconds for up in cold),
                against="initdb and a start of PostgreSQL",
                control=statistics.median(database.cold for database in databases), unit="s",
                bound=f"≤ initdb + {MOST_BEYOND_INITDB_SECONDS:g} s", holds=beyond <= MOST_BEYOND_INITDB_SECONDS,
            ),
            Line(
                what="`up`, warm", measured=warm_seconds,
                against="a start of PostgreSQL",
                control=statistics.median(database.warm for database in databases), unit="s",
                bound=f"≤ {MOST_WARM_SECONDS:g} s", holds=warm_seconds <= MOST_WARM_SECONDS,
            ),
            Line(
                what="memory of the API", measured=megabytes,
                against="Litestar without a route, on the same server", control=empty_megabytes, unit="MB",
                bound=f"≤ {MOST_MEGABYTES:g} MB, no litellm", holds=megabytes <= MOST_MEGABYTES and not modules,
            ),
            Line(
                what="`prpm --help`", measured=help_seconds,
                against="`python -c pass`", control=statistics.median(seconds for _, seconds in helps), unit="s",
                bound=f"≤ {MOST_HELP_SECONDS:g} s", holds=help_seconds <= MOST_HELP_SECONDS,
            ),
        ),
        notes=(
            f"initdb alone takes {initdb:.2f} s; `up` is ready {beyond:.2f} s after it (medians).",
            f"Modules of litellm in the API after {REQUESTS} requests: {', '.join(modules) or 'none'}.",
        ),
    )  # fmt: skip


def start_database(folder: Path) -> DatabaseStart:
    """PostgreSQL as `up` starts it, and nothing else."""
    began = time.monotonic()
    server = start_postgres(folder)
    cold = time.monotonic() - began
    server.stop()
    initdb = server.initdb_seconds or 0.0
    began = time.monotonic()
    server = start_postgres(folder)
    warm = time.monotonic() - began
    server.stop()
    return DatabaseStart(initdb, cold, warm)


def start_up(data_dir: Path, models: Path, *, requests: int = 0, **variables: str) -> UpStart:
    """One life of `up`, with some requests to its API; `variables` go into its environment."""
    arguments = ("-m", "server.operator.main", "up", "--json", "--data-dir", str(data_dir))
    log = data_dir.with_name(f"{data_dir.name}.log")
    began = time.monotonic()
    with running(*arguments, environ=environment(PRPM_CATALOGUE=str(models), **variables), log=log) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.monotonic() - began
        if not line:
            raise RuntimeError(f"`up` did not start:\n{log.read_text()}")
        if not requests:
            return UpStart(seconds, None)
        ready = json.loads(line)
        ask(port=int(ready["url"].rpartition(":")[2]), token=ready["token"], requests=requests)
        return UpStart(seconds, megabytes(child(process.pid, "api")))


def ask(*, port: int, token: str, requests: int) -> None:
    """Requests of every usual kind: submits, jobs, packages, usage, pages."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    submit = json.dumps({"package_id": "@demo/hello", "force": True})

    def send(method: str, path: str, body: str | None = None) -> bytes:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        answer = response.read()
        assert response.status < 300, (path, response.status, answer)
        return answer

    with contextlib.closing(connection):
        for _ in range(requests // 5):
            job_id = json.loads(send("POST", "/api/v1/test-jobs/run", submit))["job_id"]
            for path in (
                f"/api/v1/test-jobs/{job_id}", f"/jobs/{job_id}", "/api/v1/packages/%40demo%2Fhello",
                "/api/v1/users/me/test-usage",
            ):  # fmt: skip
                send("GET", path)


def child(pid: int, command: str) -> int:
    """The process below `pid` whose command line ends with this word."""
    (found,) = [process for process in psutil.Process(pid).children() if process.cmdline()[-1:] == [command]]
    return found.pid


def megabytes(pid: int) -> float:
    """The resident set of a process, in millions of bytes."""
    resident: int = psutil.Process(pid).memory_info().rss
    return resident / 1e6


def memory_of_empty_api(folder: Path) -> float:
    """The same for a framework with nothing in it, after as many requests (all of them answered 404)."""
    port, log = free_port(), folder / "empty.log"
    with running("-c", EMPTY_API, str(port), environ=environment(), log=log) as process:
        wait_until_ready(process, port=port, path="/", log=log)
        for _ in range(REQUESTS):
            status(port, "/")
        return megabytes(process.pid)


def litellm_modules(data_dir: Path, models: Path) -> list[str]:
    """Modules of litellm that the API imports until it has answered the requests, seen by Python's own trace."""
    start_up(data_dir, models, requests=REQUESTS, PYTHONPROFILEIMPORTTIME="1")
    lines = (data_dir / "logs" / "api.log").read_text().splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    assert "litestar" in imported, "the trace of imports is missing"
    return sorted(name for name in imported if name.partition(".")[0] == "litellm")


def by_turns(contender: Sequence[str], control: Sequence[str], *, rounds: int) -> list[tuple[float, float]]:
    """Seconds of both `python ARGUMENTS`, once each a round, after one that warms the file cache."""
    seconds = [(run_seconds(contender), run_seconds(control)) for _ in range(rounds + 1)]
    return seconds[1:]


def run_seconds(arguments: Sequence[str]) -> float:
    """Wall time of `python ARGUMENTS`. Raises CalledProcessError."""
    began = time.monotonic()
    subprocess.run([sys.executable, *arguments], env=environment(), stdout=subprocess.DEVNULL, check=True)
    return time.monotonic() - began
