"""The service beside a bare handler: how long a small job takes, and how many jobs can be submitted."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
from msgspec import Struct

from benchmarks.bare import CONNECTIONS
from benchmarks.load import Load, http_request, send_from_own_process
from benchmarks.programs import catalogue, environment, free_port, running, stop, wait_until_ready
from benchmarks.tables import Line, Table
from evals.archives import pack
from server.embedded import start_postgres, start_valkey
from server.services.accounts import create_account
from server.services.identity import issue_token
from server.services.publishing import publish_package
from server.store.accounts import read_caller_by_id
from server.store.migrations import migrate

ACCOUNTS = 1000
CLIENT_CONNECTIONS = 32
PAIRS = 7  # of rounds: the service, then the control
JOBS = 200
WARM_UP_JOBS = 30
POLL_SECONDS = 0.005
MOST_MILLISECONDS = 100.0
LEAST_RATIO = 0.5

PACKAGE = {
    "prpm.json": json.dumps(
        {"name": "one-case", "version": "1.0.0", "description": "One case.", "format": "claude", "subtype": "rule"}
        | {"files": ["rule.md"]}
    ).encode(),
    "rule.md": b"Answer the question.\n",
    "prpm.test.yaml": b"tests:\n  - input: hello\n    assert: [{type: contains, value: hello}]\n",
}
PACKAGE_NAME = "@bench/one-case"


class Site(Struct, frozen=True, kw_only=True):
    """Where the service and its control listen, and who may call: one token an account."""

    port: int
    bare_port: int
    tokens: list[str]
    workers: list[Any]  # the Popen of each process: no type that a Struct knows


class Latency(Struct, frozen=True):
    """Milliseconds from the submit to the last answer, one figure a job."""

    milliseconds: list[float]

    def percentile(self, share: float) -> float:
        """The least figure that `share` (0..1) of the jobs did not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Pair(Struct, frozen=True):
    """One round of submits to the service, and the one to the control that came after it."""

    service: Load
    bare: Load

    @property
    def ratio(self) -> float:
        """The service's throughput as a share of the control's."""
        return self.bare.seconds / self.service.seconds


def measure() -> Table:
    """Both, on one durable PostgreSQL."""
    with open_site() as site:
        job, bare = measure_latency(site)
        for worker in site.workers:
            stop(worker)
        pairs = measure_throughput(site)
    return table(job, bare, pairs)


def table(job: Latency, bare: Latency, pairs: list[Pair]) -> Table:
    """The figures as promised."""
    ratio = statistics.median(pair.ratio for pair in pairs)
    against = "bare handler: one INSERT, one GET"
    client_share = statistics.median(pair.bare.cpu_seconds / pair.bare.seconds for pair in pairs)
    return Table(
        title="service",
        how=f"One API process, one worker with the echo model, PostgreSQL with fsync. Jobs: {JOBS} of one case, one "
        f"after the other, each polled every {POLL_SECONDS * 1000:g} ms. Submits: {ACCOUNTS:,} enterprise accounts "
        f"send one job each over {CLIENT_CONNECTIONS} connections, no worker running; {len(pairs)} rounds by turns "
        f"with the control, a Litestar handler with one INSERT on the same uvicorn with {CONNECTIONS} connections.",
        lines=(
            Line(
                what="submit to completed, p50",
                measured=job.percentile(0.5), against=against, control=bare.percentile(0.5), unit="ms",
                bound=f"≤ {MOST_MILLISECONDS:g} ms", holds=job.percentile(0.5) <= MOST_MILLISECONDS,
            ),
            Line(
                what="submit to completed, p99",
                measured=job.percentile(0.99), against=against, control=bare.percentile(0.99), unit="ms",
            ),
            Line(
                what="submits",
                measured=statistics.median(ACCOUNTS / pair.service.seconds for pair in pairs),
                against="bare handler: one INSERT",
                control=statistics.median(ACCOUNTS / pair.bare.seconds for pair in pairs),
                unit="/s",
                ratio=ratio, bound=f"ratio ≥ {LEAST_RATIO:g}", holds=ratio >= LEAST_RATIO,
            ),
        ),
        notes=(
            "Ratios of the single rounds: " + ", ".join(f"{pair.ratio:.2f}" for pair in pairs) + ".",
            f"The client was busy {client_share:.0%} of the control's time: it is not what is measured.",
        ),
    )  # fmt: skip


@contextlib.contextmanager
def open_site(*, workers: int = 1) -> Iterator[Site]:
    """Servers, API, workers and control, gone afterwards."""
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
            PRPM_CATALOGUE=str(catalogue(folder, models=PAIRS + 1)),
        )

        def start(*arguments: str, port: int | None, path: str, number: int = 0) -> subprocess.Popen[str]:
            log = folder / f"{arguments[1]}-{arguments[-1]}-{number}.log"
            process = stack.enter_context(running(*arguments, environ=environ, log=log))
            if port:
                wait_until_ready(process, port=port, path=path, log=log)
            return process

        started = [
            start("-m", "server.operator.main", "worker", port=None, path="", number=number)
            for number in range(workers)
        ]
        start("-m", "server.operator.main", "api", port=port, path="/health/ready")
        start("-m", "benchmarks.bare", "--dsn", postgres.dsn, "--port", str(bare_port), port=bare_port, path="/")
        yield Site(port=port, bare_port=bare_port, tokens=tokens, workers=started)


@contextlib.contextmanager
def logs_on_failure(folder: Path) -> Iterator[None]:
    """Whatever fails inside, the ends of the logs in `folder` are shown on stderr."""
    try:
        yield
    except Exception:
        for log in sorted(folder.glob("*.log")):
            print(f"{log.name}:\n{log.read_text()[-2000:]}", file=sys.stderr)
        raise


async def prepare(dsn: str) -> list[str]:
    """The schema, a package with one case, and an enterprise account a token."""
    await migrate(dsn)
    async with asyncpg.create_pool(dsn, min_size=0, max_size=10) as db:
        owner = await create_account(db, "bench", tier="enterprise")
        caller = await read_caller_by_id(db, owner.id)
        assert caller is not None
        await publish_package(db, caller, archive=pack(PACKAGE), publish_as=PACKAGE_NAME)

        async def one(number: int) -> str:
            username = f"bench-{number}"
            await create_account(db, username, tier="enterprise")
            return (await issue_token(db, username, name="benchmark")).token

        return await asyncio.gather(*(one(number) for number in range(ACCOUNTS)))


def measure_latency(site: Site) -> tuple[Latency, Latency]:
    """Milliseconds of the service's jobs and of the control's, taken by turns."""
    service = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
    bare = http.client.HTTPConnection("127.0.0.1", site.bare_port, timeout=30)
    with contextlib.closing(service), contextlib.closing(bare):
        for number in range(WARM_UP_JOBS):
            one_job(service, site.tokens[number])
            one_bare_job(bare)
        jobs, bare_jobs = [], []
        for number in range(JOBS):
            jobs.append(timed(lambda token=site.tokens[number]: one_job(service, token)))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            bare_jobs.append(timed(lambda: one_bare_job(bare)))
    return Latency(jobs), Latency(bare_jobs)


def timed(act: Callable[[], None]) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def one_job(connection: http.client.HTTPConnection, token: str) -> None:
    """Submit and poll until it is completed."""
    headers = {"Authorization": f"Bearer {token}"}
    # An equal submit within 10 s would get the earlier job back, and a kept answer would spare the model's call.
    body = {"package_id": PACKAGE_NAME, "models": ["echo-0"], "force": True, "cache": False}
    job_id = exchange(connection, "POST", "/api/v1/test-jobs/run", body=body, headers=headers)["job_id"]
    while (job := exchange(connection, "GET", f"/api/v1/test-jobs/{job_id}", headers=headers))["status"] != "completed":
        assert job["status"] in ("queued", "running"), job
        time.sleep(POLL_SECONDS)


def one_bare_job(connection: http.client.HTTPConnection) -> None:
    """The control: one INSERT, one GET."""
    body = {"package_id": PACKAGE_NAME, "models": ["echo-0"]}
    job_id = exchange(connection, "POST", "/jobs", body=body)["job_id"]
    exchange(connection, "GET", f"/jobs/{job_id}")


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    *,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The decoded answer. Raises AssertionError for a refusal."""
    sent = None if body is None else json.dumps(body)
    connection.request(method, path, body=sent, headers={"Content-Type": "application/json", **(headers or {})})
    response = connection.getresponse()
    answer: dict[str, Any] = json.loads(response.read())
    assert response.status < 300, answer
    return answer


def measure_throughput(site: Site) -> list[Pair]:
    """Rounds by turns, so that a busy machine is busy for both; the first pair warms up and does not count."""
    pairs = []
    for number in range(PAIRS + 1):
        # Another model a round makes each submit a distinct one of its account.
        body = {"package_id": PACKAGE_NAME, "models": [f"echo-{number}"]}
        pairs.append(
            Pair(
                one_round(site.port, [submit_request(token, body) for token in site.tokens]),
                one_round(site.bare_port, [http_request("POST", "/jobs", body=body)] * ACCOUNTS),
            )
        )
    return pairs[1:]


def submit_request(token: str, body: object) -> bytes:
    """A submit of this account."""
    return http_request("POST", "/api/v1/test-jobs/run", body=body, headers={"authorization": f"Bearer {token}"})


def one_round(port: int, requests: list[bytes]) -> Load:
    """All requests once. Raises AssertionError when one was refused."""
    load = send_from_own_process(requests, port=port, connections=CLIENT_CONNECTIONS)
    assert load.statuses == {"202": len(requests)}, load
    return load
