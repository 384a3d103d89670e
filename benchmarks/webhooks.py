"""Deliveries of a forge: how soon they are acknowledged, that none is lost, and that each is acted on once."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import random
import statistics
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
from msgspec import Struct

from benchmarks.paced import Answers, send_at_their_moments
from benchmarks.programs import catalogue, environment, free_port, running, wait_until_ready
from benchmarks.service import logs_on_failure
from benchmarks.tables import Line, Table
from server.embedded import start_postgres, start_valkey
from server.store.migrations import migrate

SECRET = "a secret of the benchmark"  # noqa: S105 -- of a service that lives for a minute
BODY_BYTES = 25_000
DELIVERIES = 1000
INSTALLATIONS = 100  # so that none is beyond its rate
STEADY_SECONDS = 10.0  # for them all: 100/s
BURST_SECONDS = 1.0
ROUNDS = 3
REPEATED = 500  # of them, each sent two to five times
STEADY_MILLISECONDS = 100.0
BURST_MILLISECONDS = 5000.0
HANDLED_SECONDS = 60.0
AGAINST = "bare handler: HMAC and one INSERT"


class Site(Struct, frozen=True, kw_only=True):
    """Where the service and its control listen, and their database."""

    port: int
    bare_port: int
    dsn: str


class Sending(Struct, frozen=True, kw_only=True):
    """One round: what came back, and how many of the deliveries that were acknowledged are in the database."""

    answers: Answers
    kept: int

    @property
    def is_whole(self) -> bool:
        return self.answers.statuses == {"202": DELIVERIES} and self.kept == DELIVERIES


def measure() -> Table:
    """Service and control by turns, on one durable PostgreSQL."""
    with open_site() as site:
        send(site, seconds=2.0, count=200)  # the first requests of a process take longer
        steady = [both(site, seconds=STEADY_SECONDS) for _ in range(ROUNDS)]
        burst = [both(site, seconds=BURST_SECONDS) for _ in range(ROUNDS)]
        tries, handled = send_again_and_again(site)
    return table(steady, burst, tries=tries, handled=handled)


def table(
    steady: Sequence[tuple[Sending, Sending]],
    burst: Sequence[tuple[Sending, Sending]],
    *,
    tries: int,
    handled: Handled,
) -> Table:
    """The figures as promised."""
    everything = [own for own, _ in (*steady, *burst)]
    kept = sum(one.kept for one in everything)
    wanted = DELIVERIES * len(everything)
    latest = max(one.answers.latest_milliseconds for one in everything)
    return Table(
        title="webhooks",
        how=f"One API process, one worker, PostgreSQL with fsync; deliveries of {BODY_BYTES / 1000:g} kB, signed as "
        f"GitHub signs them, for {INSTALLATIONS} installations. {DELIVERIES:,} deliveries evenly over "
        f"{STEADY_SECONDS:g} s, then {DELIVERIES:,} within {BURST_SECONDS:g} s, sent at their moments whether earlier "
        f"ones were answered or not; {ROUNDS} rounds by turns with the control. Then {REPEATED} deliveries, each sent "
        f"two to five times in any order.",
        lines=(
            *latency_lines("100/s", steady, most=STEADY_MILLISECONDS),
            *latency_lines("1,000 in a second", burst, most=BURST_MILLISECONDS),
            Line(
                what="acknowledged deliveries that are kept", measured=kept, against="sent", control=wanted, unit="",
                bound="all", holds=all(one.is_whole for one in everything),
            ),
            Line(
                what=f"{REPEATED} deliveries sent {tries:,} times: acted on", measured=handled.attempts,
                against="different ones", control=REPEATED, unit="", bound=f"= {REPEATED}",
                holds=handled.rows == handled.attempts == REPEATED,
            ),
        ),
        notes=(
            f"The client sent each delivery at most {latest:.0f} ms after its moment, which counts as the service's.",
        ),
    )  # fmt: skip


def latency_lines(rate: str, rounds: Sequence[tuple[Sending, Sending]], *, most: float) -> list[Line]:
    """Half and 99 of a hundred, each the median of the rounds."""

    def of(share: float, place: int) -> float:
        return statistics.median(pair[place].answers.percentile(share) for pair in rounds)

    return [
        Line(what=f"{rate}: acknowledged, p50", measured=of(0.5, 0), against=AGAINST, control=of(0.5, 1), unit="ms"),
        Line(
            what=f"{rate}: acknowledged, p99", measured=of(0.99, 0), against=AGAINST, control=of(0.99, 1), unit="ms",
            bound=f"≤ {most:g} ms", holds=of(0.99, 0) <= most,
        ),
    ]  # fmt: skip


def both(site: Site, *, seconds: float) -> tuple[Sending, Sending]:
    """The service, then the control; what the service has to handle is over before that."""
    own = send(site, seconds=seconds)
    wait_until_handled(site)
    bare = send(site, seconds=seconds, is_bare=True)
    return own, bare


def send(site: Site, *, seconds: float, count: int = DELIVERIES, is_bare: bool = False) -> Sending:
    """So many deliveries, evenly over the time."""
    names = [str(uuid.uuid4()) for _ in range(count)]
    plan = [(number * seconds / count, delivery(name, number)) for number, name in enumerate(names)]
    answers = send_at_their_moments(plan, port=site.bare_port if is_bare else site.port)
    kept = asyncio.run(count_kept(site.dsn, names, table="bare_deliveries" if is_bare else "deliveries"))
    return Sending(answers=answers, kept=kept)


class Handled(Struct, frozen=True):
    """Deliveries that ended, and how often handling them was begun."""

    rows: int
    attempts: int


def send_again_and_again(site: Site) -> tuple[int, Handled]:
    """How often deliveries were sent in all, and how often they were acted on."""
    chance = random.Random(7)
    names = [str(uuid.uuid4()) for _ in range(REPEATED)]
    requests = [delivery(name, number) for number, name in enumerate(names) for _ in range(chance.randint(2, 5))]
    chance.shuffle(requests)
    plan = [(number / 400, request) for number, request in enumerate(requests)]
    answers = send_at_their_moments(plan, port=site.port)
    assert answers.statuses == {"202": len(requests)}, answers.statuses
    wait_until_handled(site)
    return len(requests), asyncio.run(count_handled(site.dsn, names))


def delivery(name: str, number: int) -> bytes:
    """A whole request, as GitHub sends a pull request's."""
    body = payload(number)
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "Host": "127.0.0.1",
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "User-Agent": "GitHub-Hookshot/0a1b2c3",
        "X-GitHub-Delivery": name,
        "X-GitHub-Event": "pull_request",
        "X-GitHub-Hook-ID": "1",
        "X-Hub-Signature-256": f"sha256={signature}",
    }
    lines = ["POST /webhooks/github HTTP/1.1", *(f"{key}: {value}" for key, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


def payload(number: int) -> bytes:
    """A pull request of one of the installations, filled with addresses as the forge's own are."""
    place = number % INSTALLATIONS
    number += 1  # a forge counts from one, and a commit of nought alone is none
    side = {"ref": "feature", "sha": f"{number:040x}", "repo": {"id": 1000 + place}}
    links = {f"link_{n:03}_url": f"https://forge.example/repos/acme/prompts/commits/{n:040x}" for n in range(220)}
    content = {
        "action": "opened",
        "number": number,
        "pull_request": {"number": number, "draft": False, "head": side, "base": side, "links": links},
        "repository": {"id": 1000 + place, "full_name": f"acme/prompts-{place}", "default_branch": "main"},
        "installation": {"id": 1 + place},
        "sender": {"id": 5, "login": "ann", "filling": ""},
    }
    filling = "x" * (BODY_BYTES - len(json.dumps(content)))
    return json.dumps(content).replace('"filling": ""', f'"filling": "{filling}"').encode()


async def count_kept(dsn: str, names: Sequence[str], *, table: str) -> int:
    connection = await asyncpg.connect(dsn)
    try:
        statement = f"SELECT COUNT(*) FROM {table} WHERE delivery_id = ANY ($1::TEXT[])"  # noqa: S608 -- two tables of ours
        count: int = await connection.fetchval(statement, names)
        return count
    finally:
        await connection.close()


async def count_handled(dsn: str, names: Sequence[str]) -> Handled:
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(
            "SELECT COUNT(*), COALESCE(SUM(attempts), 0) FROM deliveries"
            " WHERE delivery_id = ANY ($1::TEXT[]) AND state NOT IN ('received', 'failed', 'invalid')",
            names,
        )
        return Handled(row[0], row[1])
    finally:
        await connection.close()


def wait_until_handled(site: Site) -> None:
    """Nothing waits, at most a minute later. Raises TimeoutError."""

    async def wait() -> None:
        connection = await asyncpg.connect(site.dsn)
        try:
            async with asyncio.timeout(HANDLED_SECONDS):
                while await connection.fetchval("SELECT EXISTS (SELECT FROM deliveries WHERE state = 'received')"):
                    await asyncio.sleep(0.1)
        finally:
            await connection.close()

    asyncio.run(wait())


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
        asyncio.run(migrate(postgres.dsn))
        port, bare_port = free_port(), free_port()
        environ = environment(
            PRPM_DATABASE_URL=postgres.dsn,
            PRPM_REDIS_URL=valkey.url,
            PRPM_PORT=str(port),
            PRPM_CATALOGUE=str(catalogue(folder, models=1)),
            PRPM_GITHUB_WEBHOOK_SECRET=SECRET,
        )

        def start(*arguments: str, port: int | None = None, path: str = "/") -> subprocess.Popen[str]:
            log = folder / f"{arguments[1]}-{arguments[-1]}.log".replace("/", "_")
            process = stack.enter_context(running(*arguments, environ=environ, log=log))
            if port is not None:
                wait_until_ready(process, port=port, path=path, log=log)
            return process

        start("-m", "server.operator.main", "worker")
        start("-m", "server.operator.main", "api", port=port, path="/health/ready")
        bare = ("--dsn", postgres.dsn, "--secret", SECRET, "--port", str(bare_port))
        start("-m", "benchmarks.bare_webhooks", *bare, port=bare_port)
        time.sleep(1.0)  # what starts has started
        yield Site(port=port, bare_port=bare_port, dsn=postgres.dsn)
