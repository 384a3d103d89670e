"""What the queue keeps of each waiting account equals its jobs, whoever changes them, at once and in any order."""

from __future__ import annotations

import asyncio
import uuid
from random import Random

import asyncpg

from server.domain.jobs import JobEnd
from server.store import jobs
from tests.queue import a_new_job, an_account

WHAT_WAITS = (
    "SELECT user_id, MIN(start_key) AS start_key, COUNT(*) AS jobs, SUM(trials_total) AS trials"
    " FROM test_jobs WHERE status = 'queued' GROUP BY user_id ORDER BY user_id"
)
WHAT_IS_KEPT = "SELECT user_id, start_key, jobs, trials FROM waiting_accounts ORDER BY user_id"
END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}")


async def assert_kept(db: asyncpg.Pool, *, accounts: int | None = None) -> None:
    kept = [tuple(row) for row in await db.fetch(WHAT_IS_KEPT)]
    assert kept == [tuple(row) for row in await db.fetch(WHAT_WAITS)]
    assert accounts is None or len(kept) == accounts


async def test_waiting_accounts__follow_submits_claims_cancels_and_returns_that_race(db: asyncpg.Pool):
    random = Random(7)  # noqa: S311 - the same order in each run
    accounts = [await an_account(db, tier=tier) for tier in ("plus", "pro", "enterprise", "enterprise")]
    known: list[uuid.UUID] = []
    held = []

    async def submit() -> None:
        new = a_new_job(random.choice(accounts))
        await jobs.submit_jobs(db, [new])
        known.append(new.id)

    async def claim() -> None:
        if job := await jobs.claim_job(db, "w", lease_seconds=random.choice([-1, 60]), job_seconds=60):
            held.append(job)

    async def cancel() -> None:
        if known:
            await jobs.cancel_job(db, random.choice(known), seen_by=None, code="cancelled", message="x")

    async def let_go() -> None:
        if held:
            job = held.pop()
            await (jobs.release_job(db, job) if random.random() < 0.5 else jobs.finish_job(db, job, END))

    async def sweep() -> None:
        await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="x")

    verbs = [submit, submit, submit, submit, claim, claim, cancel, let_go, sweep]
    for _ in range(12):
        await asyncio.gather(*(random.choice(verbs)() for _ in range(30)))
        await assert_kept(db)
    assert len(known) > 100


async def test_waiting_accounts__an_account_goes_with_its_last_job_and_comes_back(db: asyncpg.Pool):
    account = await an_account(db)
    await jobs.submit_jobs(db, [a_new_job(account)])
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    await assert_kept(db, accounts=0)

    await jobs.release_job(db, job)

    await assert_kept(db, accounts=1)


async def test_waiting_accounts__many_jobs_of_many_accounts_in_one_statement(db: asyncpg.Pool):
    accounts = [await an_account(db) for _ in range(3)]
    for account in accounts:
        await jobs.submit_jobs(db, [a_new_job(account)])

    await db.execute("UPDATE test_jobs SET start_key = start_key - INTERVAL '1 hour' WHERE user_id = $1", accounts[1])
    await assert_kept(db, accounts=3)
    await db.execute("UPDATE test_jobs SET status = 'failed' WHERE user_id = ANY($1)", accounts[:2])
    await assert_kept(db, accounts=1)
    await db.execute("UPDATE test_jobs SET status = 'queued'")
    await assert_kept(db, accounts=3)


async def test_waiting_accounts__jobs_that_somebody_deletes_leave_nothing(db: asyncpg.Pool):
    accounts = [await an_account(db) for _ in range(2)]
    for account in accounts * 2:
        await jobs.submit_jobs(db, [a_new_job(account)])

    await db.execute("DELETE FROM usage_ledger WHERE user_id = $1", accounts[0])
    await db.execute("DELETE FROM test_jobs WHERE user_id = $1", accounts[0])

    await assert_kept(db, accounts=1)
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None


async def test_claim__a_cancelled_head_gives_its_place_away(db: asyncpg.Pool):
    first, second = await an_account(db), await an_account(db)
    head, other, late = (a_new_job(first), a_new_job(second), a_new_job(first))
    for new in (head, other, late):
        await jobs.submit_jobs(db, [new])

    await jobs.cancel_job(db, head.id, seen_by=None, code="cancelled", message="x")

    claimed = [await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60) for _ in range(2)]
    assert [job.id for job in claimed if job] == [other.id, late.id]


async def test_claim__a_later_job_of_a_higher_tier_leads_its_account(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    await jobs.submit_jobs(db, [a_new_job(other)])
    await jobs.submit_jobs(db, [a_new_job(account)])
    await db.execute("UPDATE users SET subscription_tier = 'enterprise' WHERE id = $1", account)
    upgraded = a_new_job(account)

    await jobs.submit_jobs(db, [upgraded])

    await assert_kept(db, accounts=2)
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    assert job.id == upgraded.id
