"""Waiting for jobs: ten thousand long polls in one process, a thousand readers of one event, an event's delay."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from msgspec import Struct

from benchmarks.bare_waits import CHANNEL
from benchmarks.load import http_request
from benchmarks.programs import ROOT, catalogue, environment, free_port, running, wait_until_ready
from benchmarks.service import PACKAGE_NAME, exchange, logs_on_failure, prepare
from benchmarks.tables import Line, Table
from server.embedded import start_postgres, start_valkey

WAITS = 10_000
READERS = 1_000
CLIENTS = 4  # processes: each side of so many connections has a limit of its own
SINGLE_EVENTS = 60
MOST_MEGABYTES = 300.0
MOST_SECONDS = 2.0
SETTLED_SHARE = 0.15  # of a core: then every request waits, until the first of them ask again


class Site(Struct, frozen=True, kw_only=True):
    """The service, its control, and their processes."""

    port: int
    bare_port: int
    token: str
    dsn: str
    api: Any  # Popen, which is no type that a Struct knows
    bare: Any
    worker: Any


class Crowd(Struct, frozen=True, kw_only=True):
    """Many who waited for one event: what they took while they did, and when each heard of it."""

    megabytes: float  # resident, of the server's process, all waiting
    peak_megabytes: float  # while it answered
    delays: list[float]  # seconds from the event


class Server(Struct, frozen=True, kw_only=True):
    """Something that can be waited for."""

    process: Any
    port: int
    request: bytes
    word: str
    happen: Callable[[], float]  # makes the event happen; seconds since 1970 when it did


def measure() -> Table:
    """Service and control by turns, on one durable PostgreSQL."""
    with open_site() as site:
        idle, bare_idle = resident(site.api.pid), resident(site.bare.pid)
        singles, bare_singles = single_events(site)
        readers = crowd(job_server(site, "/events", word="event: completed"), READERS, streams=True)
        bare_readers = crowd(bare_server(site, "/events"), READERS, streams=True)
        waits = crowd(job_server(site, "?wait=25", word='"status":"completed"'), WAITS, streams=False)
        bare_waits = crowd(bare_server(site, "/wait"), WAITS, streams=False)
    megabytes = max(waits.megabytes, waits.peak_megabytes)
    last = max(waits.delays)
    per_wait = 1000 * (waits.megabytes - idle) / WAITS
    per_bare_wait = 1000 * (bare_waits.megabytes - bare_idle) / WAITS
    return Table(
        title="events",
        how=f"One API process, one worker with the echo model, PostgreSQL with fsync; {CLIENTS} client processes. "
        "The control is an ASGI app on the same server that listens to PostgreSQL as well, knows nobody and reads "
        "nothing: it passes a notification's text on to everybody. Delays count from the moment that the database "
        "gives for the job's end (before its commit), for the control from the notification's send.",
        lines=(
            Line(
                what=f"resident with {WAITS:,} open waits, at most",
                measured=megabytes, against="bare app", control=max(bare_waits.megabytes, bare_waits.peak_megabytes),
                unit="MB", bound=f"≤ {MOST_MEGABYTES:g} MB", holds=megabytes <= MOST_MEGABYTES,
            ),
            Line(
                what=f"all {WAITS:,} waits answered after the end",
                measured=last, against="bare app", control=max(bare_waits.delays), unit="s",
                bound=f"≤ {MOST_SECONDS:g} s", holds=last <= MOST_SECONDS,
            ),
            Line(
                what=f"the last of {READERS:,} readers has an event",
                measured=1000 * max(readers.delays), against="bare app",
                control=1000 * max(bare_readers.delays), unit="ms",
            ),
            Line(
                what="one reader has an event, p50",
                measured=1000 * percentile(singles, 0.5), against="bare app",
                control=1000 * percentile(bare_singles, 0.5), unit="ms",
            ),
            Line(
                what="one reader has an event, p99",
                measured=1000 * percentile(singles, 0.99), against="bare app",
                control=1000 * percentile(bare_singles, 0.99), unit="ms",
            ),
        ),
        notes=(
            f"Idle, the API's process has {idle:.0f} MB and the control's {bare_idle:.0f} MB.",
            f"A waiting request takes {per_wait:.1f} kB, in the control {per_bare_wait:.1f} kB.",
            f"Half of the waits were answered {statistics.median(waits.delays):.2f} s after the end.",
        ),
    )  # fmt: skip


@contextlib.contextmanager
def open_site() -> Iterator[Site]:
    """Servers, API, worker and control, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="prpm-bench-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)  # the database's own user has to pass
        stack.enter_context(logs_on_failure(folder))
        postgres = start_postgres(folder / "pg")
        stack.callback(postgres.stop)
        valkey = start_valkey(folder / "valkey")
        stack.callback(valkey.stop)
        tokens = asyncio.run(prepare(postgres.dsn))
        port, bare_port = free_port(), free_port()
        environ = environment(
            PRPM_DATABASE_URL=postgres.dsn,
            PRPM_REDIS_URL=valkey.url,
            PRPM_PORT=str(port),
            PRPM_CATALOGUE=str(catalogue(folder, models=1)),
        )

        def start(*arguments: str, port: int | None, path: str) -> subprocess.Popen[str]:
            log = folder / f"{arguments[1]}-{arguments[-1]}.log"
            process = stack.enter_context(running(*arguments, environ=environ, log=log))
            if port:
                wait_until_ready(process, port=port, path=path, log=log)
            return process

        worker = start("-m", "server.operator.main", "worker", port=None, path="")
        stack.callback(worker.send_signal, signal.SIGCONT)
        api = start("-m", "server.operator.main", "api", port=port, path="/health/ready")
        bare = start(
            "-m", "benchmarks.bare_waits", "--dsn", postgres.dsn, "--port", str(bare_port), port=bare_port, path="/"
        )
        yield Site(port=port, bare_port=bare_port, token=tokens[0], dsn=postgres.dsn, api=api, bare=bare, worker=worker)


def job_server(site: Site, path: str, *, word: str) -> Server:
    """A new job that ends when its worker, which stands still until then, is let go."""
    site.worker.send_signal(signal.SIGSTOP)
    headers = {"Authorization": f"Bearer {site.token}"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)) as connection:
        body = {"package_id": PACKAGE_NAME, "force": True}
        job_id = exchange(connection, "POST", "/api/v1/test-jobs/run", body=body, headers=headers)["job_id"]

    def happen() -> float:
        site.worker.send_signal(signal.SIGCONT)
        # Asked of the database: the API is what is measured.
        return asyncio.run(ended_at(site.dsn, job_id))

    request = http_request("GET", f"/api/v1/test-jobs/{job_id}{path}", headers=headers)
    return Server(process=site.api, port=site.port, request=request, word=word, happen=happen)


async def ended_at(dsn: str, job_id: str) -> float:
    """When the job ended, in seconds since 1970; waits for it."""
    connection = await asyncpg.connect(dsn)
    try:
        while True:
            ended: datetime | None = await connection.fetchval(
                "SELECT completed_at FROM test_jobs WHERE id = $1", job_id
            )
            if ended is not None:
                return ended.timestamp()
            await asyncio.sleep(0.05)
    finally:
        await connection.close()


def bare_server(site: Site, path: str) -> Server:
    """The control, whose event is a notification."""

    def happen() -> float:
        return asyncio.run(notify(site.dsn))

    return Server(
        process=site.bare, port=site.bare_port, request=http_request("GET", path), word="completed", happen=happen
    )


async def notify(dsn: str) -> float:
    """When the notification was sent, in seconds since 1970."""
    connection = await asyncpg.connect(dsn)
    try:
        sent = time.time()
        await connection.execute("SELECT PG_NOTIFY($1, 'completed')", CHANNEL)
        return sent
    finally:
        await connection.close()


def single_events(site: Site) -> tuple[list[float], list[float]]:
    """Seconds until one reader has the event, of the service and of the control, by turns."""
    singles, bare_singles = [], []
    for _ in range(SINGLE_EVENTS):
        singles += crowd(job_server(site, "/events", word="event: completed"), 1, streams=True).delays
        bare_singles += crowd(bare_server(site, "/events"), 1, streams=True).delays
    return singles, bare_singles


def crowd(server: Server, count: int, *, streams: bool) -> Crowd:
    """Let so many wait, make it happen, and see when each has heard."""
    clients = min(CLIENTS, count)
    command = [
        sys.executable, "-m", "benchmarks.waiters", "--port", str(server.port), "--word", server.word,
        "--connections", str(count // clients), *(["--streams"] if streams else []),
    ]  # fmt: skip
    with contextlib.ExitStack() as stack:
        waiting = [
            stack.enter_context(subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(clients)
        ]
        for client in waiting:
            assert client.stdin is not None
            client.stdin.write(server.request)
            client.stdin.close()
        for client in waiting:
            assert client.stdout is not None
            assert client.stdout.readline() == b"open\n"
        if count > 1:
            settle(server.process.pid)
        megabytes = resident(server.process.pid)
        happened = server.happen()
        heard = [moment for client in waiting for moment in msgspec.json.decode(read_rest(client), type=list[float])]
    return Crowd(
        megabytes=megabytes,
        peak_megabytes=resident(server.process.pid),
        delays=[moment - happened for moment in heard],
    )


def read_rest(client: subprocess.Popen[bytes]) -> bytes:
    """What the client prints until its end."""
    assert client.stdout is not None
    return client.stdout.read()


def settle(pid: int) -> None:
    """The process has had next to nothing to do for half a second."""
    before = cpu_seconds(pid)
    while True:
        time.sleep(0.5)
        now = cpu_seconds(pid)
        if now - before < SETTLED_SHARE * 0.5:
            return
        before = now


def cpu_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident(pid: int) -> float:
    """Megabytes (10^6 bytes) of memory that the process holds."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024 / 1e6


def percentile(seconds: list[float], share: float) -> float:
    """The least figure that `share` (0..1) did not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
