"""A job's time: what is over is skipped, and the outcome says what stopped it."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec

from evals.archives import pack
from evals.catalogue import load_catalogue
from evals.pool import ModelPool
from server.domain.accounts import Credential
from server.services.accounts import create_account
from server.services.admission import Admission
from server.services.publishing import publish_package
from server.services.running import Pace, run_job
from server.services.submitting import RunRequest, submit
from server.store import jobs
from server.store.accounts import read_caller_by_id
from tests.integration.test_running import PACKAGE, NoWakeups

CATALOGUE = """
default: slow
models:
  slow:
    context_tokens: 1000
    deployments: [{backend: echo, model: echo-1, price: {input: 1, output: 1}, options: {latency_ms: 100}}]
"""
CASE = {"input": "hello", "assert": [{"type": "contains", "value": "hello"}]}


async def test_job__that_runs_out_of_time_skips_the_rest_and_says_so(db: asyncpg.Pool):
    account = await create_account(db, "someone", tier="plus")
    caller = await read_caller_by_id(db, account.id)
    assert caller is not None
    await publish_package(db, caller, archive=pack(PACKAGE), publish_as="@someone/p")
    models = ModelPool(load_catalogue(CATALOGUE, environ={}))
    request = RunRequest(package_id="@someone/p", suite={"tests": [CASE] * 20}, cache=False)
    credential = Credential(account_id=caller.id)
    submission = await submit(db, Admission(db), NoWakeups(), credential, request, models=models.catalogue.describe())
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None
    assert 1790 < job.seconds_left <= 1800, "the tier's time, which is less than what the worker allows"

    late = msgspec.structs.replace(job, seconds_left=0.35)
    await run_job(db, models, late, pace=Pace(), concurrency=1, stop=asyncio.Event())

    row = await db.fetchrow(
        "SELECT status, conclusion, results, cost_usd FROM test_jobs WHERE id = $1", submission.job_id
    )
    summary = msgspec.json.decode(row["results"])
    assert (row["status"], row["conclusion"], summary["stopped_by"]) == ("completed", "inconclusive", "time_cap")
    assert summary["notes"] == ["The job's time of 0 min was over, so the rest was not run. Split the suite."]
    assert 1 <= summary["tests_passed"] <= 3
    assert summary["tests_skipped"] == 20 - summary["tests_passed"]
    # The call that was cut off is taken at its most.
    assert float(row["cost_usd"]) > summary["total_cost_usd"]


async def test_job__whose_worker_stops_has_booked_what_its_stored_trials_cost(db: asyncpg.Pool):
    account = await create_account(db, "someone", tier="plus")
    caller = await read_caller_by_id(db, account.id)
    assert caller is not None
    await publish_package(db, caller, archive=pack(PACKAGE), publish_as="@someone/p")
    models = ModelPool(load_catalogue(CATALOGUE.replace("input: 1, output: 1", "input: 100, output: 100"), environ={}))
    request = RunRequest(package_id="@someone/p", suite={"max_tokens": 10, "tests": [CASE] * 20}, cache=False)
    await submit(
        db, Admission(db), NoWakeups(), Credential(account_id=caller.id), request, models=models.catalogue.describe()
    )
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None

    # Fewer calls than one round trip to the month covers: nothing but the trials themselves brings it up to date.
    running = asyncio.create_task(run_job(db, models, job, pace=Pace(), concurrency=1, stop=asyncio.Event()))
    while await db.fetchval("SELECT COUNT(*) FROM trials") < 2:
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    stored = await db.fetchval("SELECT SUM((body::JSON #>> '{completion,cost_usd}')::NUMERIC) FROM trials")
    assert stored > 0
    assert await db.fetchval("SELECT cost_usd FROM test_jobs") >= stored
    assert await db.fetchval("SELECT cost_usd FROM user_test_usage") >= stored
