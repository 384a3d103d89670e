"""A comparison whose worker is lost in the middle: another goes on, and asks for nothing again."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.domain.accounts import Credential
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.publishing import keep_snapshot
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id
from tests.integration.test_running import NoWakeups
from tests.packages import a_package
from tests.standins.model_server import ModelServer, model_server

CATALOGUE = """
default: told
models:
  told:
    context_tokens: 100000
    deployments: [{{backend: openai_compatible, model: told-a, base_url: "{url}", free: true}}]
"""
SUITE = {"tests": [{"input": "case 0001", "assert": [{"type": "contains", "value": "ANSWER-0001"}]}]}
ALL_CALLS = 1 + 7 + 7  # the case, the package as it was, the case anew


async def a_job_of(db: asyncpg.Pool, models: ModelPool) -> None:
    """A broken package waits, to be compared with itself before it broke."""
    account = await create_account(db, "someone", tier="plus")
    caller = await read_caller_by_id(db, account.id)
    assert caller is not None
    good, bad = [
        await keep_snapshot(db, caller, archive=pack(a_package(text=f"Be right with probability {rate}", suite=SUITE)))
        for rate in (1, 0)
    ]
    request = RunRequest(
        snapshot_id=bad.snapshot_id, base_snapshot_id=good.snapshot_id, baseline="branch:main", gate="regressions"
    )
    credential = Credential(account_id=caller.id)
    await submit(db, Admission(db), NoWakeups(), credential, request, models=models.catalogue.describe())


async def work(db: asyncpg.Pool, models: ModelPool, server: ModelServer, *, until: int | None) -> None:
    """A worker claims the job; it is gone when the model was asked so often."""
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None
    running = asyncio.create_task(run_job(db, models, job, pace=Pace(), concurrency=1, stop=asyncio.Event()))
    while until is not None and server.mock.requests < until:
        await asyncio.sleep(0.005)
    if until is None:
        await running
        return
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second' WHERE id = $1", job.id)
    await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="lost")


@pytest.mark.parametrize("kills", [(4,), (11,), (4, 12)], ids=["while the base runs", "while it is tried anew", "both"])
async def test_comparing__after_a_kill_goes_on_where_it_was(db: asyncpg.Pool, kills: tuple[int, ...]):
    async with model_server(latency_ms=30) as server:
        async with ModelPool(load_catalogue(CATALOGUE.format(url=server.base_url), environ={})) as models:
            await a_job_of(db, models)

            for requests in kills:
                await work(db, models, server, until=requests)
            await work(db, models, server, until=None)

        # At a kill one call is under way, and one answer on its way into the database.
        assert server.mock.requests <= ALL_CALLS + 2 * len(kills)
    row = await db.fetchrow(
        "SELECT j.conclusion, j.trials_total, o.outcome FROM test_jobs j JOIN job_outcomes o ON o.job_id = j.id"
    )
    outcome = json.loads(row["outcome"])
    (case,) = outcome["test_cases"]
    assert (row["conclusion"], case["change"]["status"], row["trials_total"]) == ("failed", "regressed", 8)
    assert (case["change"]["baseline"]["total"], len(case["reruns"])) == (7, 7)
    assert outcome["comparison"]["base_trials"] == 7
    assert await db.fetchval("SELECT COUNT(*) FROM job_baselines") == 0
