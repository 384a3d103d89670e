"""Claims, leases and ends against a real database: the invariants of the queue, each attacked."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

import asyncpg

from evals.types import Trial
from server.domain.jobs import ClaimedJob, JobEnd, Submission
from server.store import jobs
from server.store.trials import read_trials, store_trials
from tests.queue import a_new_job, an_account


async def a_job(db: asyncpg.Pool, account: uuid.UUID, *, ago_seconds: float = 0) -> uuid.UUID:
    """A queued job, submitted so long ago."""
    new = a_new_job(account)
    [submitted] = await jobs.submit_jobs(db, [new])
    assert isinstance(submitted, Submission)
    await db.execute(
        "UPDATE test_jobs SET start_key = start_key - MAKE_INTERVAL(secs => $2) WHERE id = $1",
        new.id,
        ago_seconds,
    )
    return new.id


async def claim(db: asyncpg.Pool, *, lease_seconds: float = 15, owner: str = "w") -> ClaimedJob | None:
    return await jobs.claim_job(db, owner, lease_seconds=lease_seconds, job_seconds=3600)


async def usage_of(db: asyncpg.Pool, account: uuid.UUID) -> tuple[int, list[str]]:
    used = await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account)
    kinds = await db.fetch("SELECT kind FROM usage_ledger WHERE user_id = $1 ORDER BY id", account)
    return used, [row["kind"] for row in kinds]


def a_trial(number: int = 0) -> Trial:
    return Trial(case_index=number, model="echo", repeat_index=0, state="passed", score=1.0)


END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}", tokens=10, cost_usd=0.5)


async def test_claim__Q2_twenty_claimers_never_exceed_the_tiers_limit(db: asyncpg.Pool):
    plus, pro = await an_account(db), await an_account(db, tier="pro")
    for _ in range(8):
        await a_job(db, plus)
        await a_job(db, pro)

    for _ in range(10):
        claimed = [job for job in await asyncio.gather(*(claim(db) for _ in range(20))) if job]
        running = await db.fetch("SELECT user_id FROM test_jobs WHERE status = 'running'")
        counts = Counter(row["user_id"] for row in running)
        assert counts[plus] <= 2
        assert counts[pro] <= 5
        assert len({job.id for job in claimed}) == len(claimed)
        if not claimed and not running:
            break
        for row in await db.fetch("SELECT id, fence FROM test_jobs WHERE status = 'running' LIMIT 3"):
            await db.execute("UPDATE test_jobs SET status = 'completed' WHERE id = $1", row["id"])


async def test_claim__fills_every_slot_that_is_free(db: asyncpg.Pool):
    plus, pro = await an_account(db), await an_account(db, tier="pro")
    for _ in range(8):
        await a_job(db, plus)
        await a_job(db, pro)

    while await claim(db):
        pass

    counts = Counter(row["user_id"] for row in await db.fetch("SELECT user_id FROM test_jobs WHERE status = 'running'"))
    assert counts == {plus: 2, pro: 5}


async def test_claim__order_is_by_start_key_so_a_plus_job_waits_ten_minutes_at_most(db: asyncpg.Pool):
    plus, enterprise = await an_account(db), await an_account(db, tier="enterprise")
    later = [await a_job(db, enterprise) for _ in range(3)]
    young = await a_job(db, plus, ago_seconds=0)

    first = await claim(db)
    await db.execute("UPDATE test_jobs SET start_key = NOW() - INTERVAL '11 minutes' WHERE id = $1", young)
    second = await claim(db)

    assert first is not None
    assert first.id == later[0]
    assert second is not None
    assert second.id == young


async def test_lease__a_late_holder_can_write_and_end_nothing(db: asyncpg.Pool):
    account = await an_account(db)
    await a_job(db, account)
    late = await claim(db, lease_seconds=-1, owner="late")
    assert late is not None
    assert await store_trials(db, late, [a_trial(0)])

    assert await jobs.sweep_expired(db, most_attempts=3, code="x", message="x") == 1
    heir = await claim(db, owner="heir")
    assert heir is not None
    assert heir.fence > late.fence
    assert heir.attempt == 2

    assert not await jobs.extend_lease(db, late, lease_seconds=15)
    assert not await store_trials(db, late, [a_trial(1)])
    assert not await jobs.finish_job(db, late, END)
    assert not await jobs.release_job(db, late)
    assert [trial.case_index for trial in await read_trials(db, heir)] == [0]
    assert await jobs.finish_job(db, heir, END)
    assert not await jobs.finish_job(db, heir, END)
    assert await usage_of(db, account) == (1, ["charge"])


async def test_claim__V6_a_frozen_holder_that_wakes_up_before_the_sweep_holds_no_slot_too_many(db: asyncpg.Pool):
    plus = await an_account(db)
    for _ in range(4):
        await a_job(db, plus)
    frozen = [await claim(db, owner="frozen") for _ in range(2)]
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second' WHERE status = 'running'")

    early = await claim(db, owner="early")
    extended = [await jobs.extend_lease(db, job, lease_seconds=15) for job in frozen if job]

    assert early is None
    assert extended == [True, True]
    live = "SELECT COUNT(*) FROM test_jobs WHERE status = 'running' AND lease_until > NOW()"
    assert await db.fetchval(live) == 2


async def test_sweep__leaves_live_leases_alone(db: asyncpg.Pool):
    await a_job(db, await an_account(db))
    await claim(db)

    assert await jobs.sweep_expired(db, most_attempts=3, code="x", message="x") == 0


async def test_sweep__after_the_last_attempt_the_job_fails_and_is_refunded_once(db: asyncpg.Pool):
    account = await an_account(db)
    job_id = await a_job(db, account)
    for _ in range(3):
        assert await claim(db, lease_seconds=-1)
        await asyncio.gather(
            *(jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="Lost.") for _ in range(5))
        )

    row = await db.fetchrow("SELECT status, error_code, error_message FROM test_jobs WHERE id = $1", job_id)
    assert tuple(row) == ("failed", "infrastructure", "Lost.")
    assert await usage_of(db, account) == (0, ["charge", "refund"])
    assert await claim(db) is None


async def test_refund__Q4_goes_to_the_month_that_was_charged(db: asyncpg.Pool):
    account = await an_account(db)
    await a_job(db, account)
    for table in ("user_test_usage", "usage_ledger"):
        await db.execute(f"UPDATE {table} SET month = '2026-01-01' WHERE user_id = $1", account)
    job = await claim(db)
    assert job is not None

    await jobs.finish_job(db, job, JobEnd(status="failed", error_code="x", error_message="x", refund_reason="provider"))

    rows = await db.fetch("SELECT kind, month::TEXT, runs FROM usage_ledger WHERE user_id = $1 ORDER BY id", account)
    assert [tuple(row) for row in rows] == [("charge", "2026-01-01", 1), ("refund", "2026-01-01", -1)]
    used = await db.fetch("SELECT month::TEXT, test_runs_count FROM user_test_usage WHERE user_id = $1", account)
    assert [tuple(row) for row in used] == [("2026-01-01", 0)]


async def test_release__gives_the_attempt_back(db: asyncpg.Pool):
    await a_job(db, await an_account(db))
    job = await claim(db)
    assert job is not None

    assert await jobs.release_job(db, job)

    again = await claim(db)
    assert again is not None
    assert (again.attempt, again.id) == (1, job.id)
    assert again.fence > job.fence


async def test_finish__keeps_outcome_tokens_and_money(db: asyncpg.Pool):
    account = await an_account(db)
    job_id = await a_job(db, account)
    job = await claim(db)
    assert job is not None

    assert await jobs.finish_job(db, job, END)

    row = await db.fetchrow("SELECT tokens_used, cost_usd FROM user_test_usage WHERE user_id = $1", account)
    assert (row["tokens_used"], float(row["cost_usd"])) == (10, 0.5)
    assert await db.fetchval("SELECT outcome FROM job_outcomes WHERE job_id = $1", job_id) == "{}"


async def test_submit__a_lapsed_account_keeps_what_it_queued(db: asyncpg.Pool):
    account = await an_account(db)
    await a_job(db, account)
    await a_job(db, account)
    await db.execute("UPDATE users SET subscription_tier = 'free' WHERE id = $1", account)

    assert await claim(db) is not None
    assert await claim(db) is None  # one at a time
