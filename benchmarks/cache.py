"""How long a job takes whose every answer was kept, on the worker's own path from the claim to the last statement."""

from __future__ import annotations

import asyncio
import contextlib
import json
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import Struct

from benchmarks.programs import catalogue
from benchmarks.tables import Line, Table
from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.database import connect_database
from server.domain.accounts import Credential
from server.embedded import start_postgres
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.caching import announce_models
from server.services.publishing import publish_package
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id
from server.store.migrations import migrate

TRIALS = 1000
ROUNDS = 5
CONCURRENCY = 20  # as a worker has it by default
DAYS = 14
MOST_SECONDS = 1.5

PACKAGE = {
    "prpm.json": json.dumps(
        {"name": "cached", "version": "1.0.0", "description": "Many cases.", "format": "claude", "subtype": "rule"}
        | {"files": ["rule.md"]}
    ).encode(),
    "rule.md": b"Answer the question.\n",
}
PACKAGE_NAME = "@bench/cached"


class NoWakeups:
    """Jobs are run here, one by one."""

    async def wake(self) -> None:
        """Nobody sleeps."""


class Bench(Struct, frozen=True, kw_only=True):
    """A database with a package, who tests it, and the echo models."""

    db: Any  # asyncpg.Pool: no type that a Struct knows
    models: Any  # ModelPool, neither
    account_id: uuid.UUID


def measure() -> Table:
    """Jobs of kept answers and the control by turns, and an identical job's submit."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    return asyncio.run(_measure())


async def _measure() -> Table:
    async with open_bench() as bench:
        asked = await one_job(bench, "first")
        kept, bare, identical = [], [], []
        for number in range(ROUNDS):
            kept.append(await one_job(bench, f"round {number}"))
            bare.append(await bare_round(bench))
            identical.append(await one_identical(bench, f"round {number}"))
    return table(kept, bare, identical, asked=asked)


def table(kept: list[float], bare: list[float], identical: list[float], *, asked: float) -> Table:
    """The figures as promised."""
    control = statistics.median(bare)
    against = "two statements: all answers by their keys, all trials written"
    return Table(
        title="cache",
        how=f"Jobs of {TRIALS:,} trials whose answers were all kept, {CONCURRENCY} trials at a time, from the claim to "
        f"the end on PostgreSQL with fsync; each suite differs from the one before, so nothing but single answers can "
        f"be used again. {ROUNDS} rounds by turns with the control.",
        lines=(
            Line(
                what="job of kept answers",
                measured=statistics.median(kept), against=against, control=control, unit="s",
                bound=f"≤ {MOST_SECONDS:g} s", holds=statistics.median(kept) <= MOST_SECONDS,
            ),
            Line(
                what="identical job: its submit, which is all",
                measured=statistics.median(identical), against=against, control=control, unit="s",
            ),
        ),
        notes=(f"The job that asked for all answers, of an echo that takes no time, took {asked:.2f} s.",),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def open_bench() -> AsyncIterator[Bench]:
    """A server of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="prpm-bench-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # the database's own user has to pass
        postgres = start_postgres(folder / "pg")
        try:
            await migrate(postgres.dsn)
            db = await connect_database(postgres.dsn, most_connections=10)
            models = ModelPool(load_catalogue(catalogue(folder, models=1).read_text(), environ={}))
            account = await create_account(db, "bench", tier="pro")
            caller = await read_caller_by_id(db, account.id)
            assert caller is not None
            await publish_package(db, caller, archive=pack(PACKAGE), publish_as=PACKAGE_NAME)
            yield Bench(db=db, models=models, account_id=account.id)
            await models.aclose()
            await db.close()
        finally:
            postgres.stop()


async def one_job(bench: Bench, description: str) -> float:
    """Seconds from the claim to the end."""
    await send(bench, description)
    began = time.perf_counter()
    job = await jobs.claim_job(bench.db, "bench", lease_seconds=15, job_seconds=3600)
    assert job is not None
    await run_job(
        bench.db,
        bench.models,
        job,
        pace=Pace(),
        concurrency=CONCURRENCY,
        stop=asyncio.Event(),
        cache_days=DAYS,
    )
    seconds = time.perf_counter() - began
    states = await bench.db.fetch(
        "SELECT body::JSON -> 'completion' -> 'cache' ->> 'state' AS state, COUNT(*)::INT AS trials"
        " FROM trials WHERE job_id = $1 GROUP BY 1",
        job.id,
    )
    expected = "miss" if description == "first" else "hit"
    assert [tuple(row) for row in states] == [(expected, TRIALS)], states
    return seconds


async def one_identical(bench: Bench, description: str) -> float:
    """Seconds of the submit of a job that ran before."""
    began = time.perf_counter()
    job_id = await send(bench, description)
    seconds = time.perf_counter() - began
    assert await bench.db.fetchval("SELECT cached_from IS NOT NULL FROM test_jobs WHERE id = $1", job_id)
    return seconds


async def send(bench: Bench, description: str) -> uuid.UUID:
    """A submit whose suite has this description, and always the same cases."""
    submission = await submit(
        bench.db,
        Admission(bench.db),
        NoWakeups(),
        Credential(account_id=bench.account_id),
        RunRequest(package_id=PACKAGE_NAME, suite=suite(description)),
        models=announce_models(bench.models.catalogue),
        cache_days=DAYS,
        idempotency_key=uuid.uuid4().hex,
    )
    return submission.job_id


def suite(description: str) -> dict[str, Any]:
    """Cases that the echo passes."""
    cases = [
        {"input": f"case {number:04}", "assert": [{"type": "contains", "value": f"{number:04}"}]}
        for number in range(TRIALS)
    ]
    return {"description": description, "tests": cases}


async def bare_round(bench: Bench) -> float:
    """Seconds of the least that there is to do: read all answers by key, decode them, write all trials."""
    await bench.db.execute("CREATE TABLE IF NOT EXISTS bare_trials (number INT, body TEXT)")
    keys = [row["key"] for row in await bench.db.fetch("SELECT key FROM completions")]
    began = time.perf_counter()
    rows = await bench.db.fetch("SELECT key, body FROM completions WHERE key = ANY ($1::BYTEA[])", keys)
    bodies = [msgspec.json.encode(msgspec.json.decode(row["body"])).decode() for row in rows]
    await bench.db.execute(
        "INSERT INTO bare_trials SELECT * FROM UNNEST($1::INT[], $2::TEXT[])", list(range(len(bodies))), bodies
    )
    return time.perf_counter() - began
