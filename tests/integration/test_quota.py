"""The month's runs: charged once, given back once and to the month that was charged, whatever happens at once."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from server.domain.errors import QuotaExceeded
from server.domain.jobs import EqualSubmit, JobEnd, Refused, Submission
from server.services.admission import Admission
from server.store import jobs
from tests.queue import a_new_job, an_account
from tests.service import Service

DONE = JobEnd(status="completed", conclusion="failed", summary="{}", outcome="{}")
LOST = JobEnd(status="failed", error_code="no_verdict", error_message="x", refund_reason="no_verdict")
TRIALS, RACERS = 5, 200
SET_USED = (
    "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
    " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, $2)"
)


async def entries(db: asyncpg.Pool, account: uuid.UUID) -> list[tuple[str, int]]:
    rows = await db.fetch("SELECT kind, runs FROM usage_ledger WHERE user_id = $1 ORDER BY id", account)
    return [(row["kind"], row["runs"]) for row in rows]


async def used(db: asyncpg.Pool, account: uuid.UUID) -> int:
    return await db.fetchval("SELECT SUM(test_runs_count)::INT FROM user_test_usage WHERE user_id = $1", account)


async def test_submit__Q1_two_hundred_at_once_with_one_run_left_accept_exactly_one(db: asyncpg.Pool):
    for _ in range(TRIALS):
        account = await an_account(db)
        await db.execute(SET_USED, account, 99)

        async def race(account: uuid.UUID = account) -> str:
            try:
                [kept] = await jobs.submit_jobs(db, [a_new_job(account)])
            except QuotaExceeded:
                return "refused"
            return "accepted" if isinstance(kept, Submission) else "refused"

        answers = Counter(await asyncio.gather(*(race() for _ in range(RACERS))))

        assert answers == {"accepted": 1, "refused": RACERS - 1}
        assert await entries(db, account) == [("charge", 1)]
        assert await used(db, account) == 100
        assert await db.fetchval("SELECT COUNT(*) FROM submissions WHERE caller_id = $1", account) == 1


async def test_submit__Q1_D6_accounts_that_race_in_batches_get_what_each_has_left(db: asyncpg.Pool):
    left = {await an_account(db): runs for runs in (0, 1, 2, 7)}
    for account, runs in left.items():
        await db.execute(SET_USED, account, 100 - runs)
    admission = Admission(db)

    async def race(account: uuid.UUID) -> bool:
        try:
            return isinstance(await admission.submit(a_new_job(account)), Submission)
        except QuotaExceeded:
            return False

    racers = [account for account in left for _ in range(50)]
    answers = await asyncio.gather(*(race(account) for account in racers))

    accepted = Counter(account for account, is_accepted in zip(racers, answers, strict=True) if is_accepted)
    assert {account: accepted[account] for account in left} == left
    for account in left:
        assert await used(db, account) == 100


@pytest.fixture
async def new_year(db: asyncpg.Pool, dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool whose NOW() is 0.4 s before the year ends in UTC, in sessions that live in another time zone."""
    await db.execute(
        "CREATE SCHEMA test_clock; CREATE TABLE test_clock.start (real TIMESTAMPTZ);"
        "INSERT INTO test_clock.start VALUES (CLOCK_TIMESTAMP());"
        "CREATE FUNCTION test_clock.now() RETURNS TIMESTAMPTZ LANGUAGE sql STABLE AS $$"
        " SELECT '2026-12-31 23:59:59.6+00'::TIMESTAMPTZ + (pg_catalog.NOW() - (SELECT real FROM test_clock.start)) $$"
    )
    path = "test_clock, pg_catalog, public"
    settings = {"search_path": path, "TimeZone": "Pacific/Kiritimati"}
    pool = await asyncpg.create_pool(dsn, min_size=10, max_size=10, server_settings=settings)
    await db.execute("UPDATE test_clock.start SET real = CLOCK_TIMESTAMP()")
    yield pool
    await pool.close()


async def test_submit__Q3_each_job_counts_in_the_month_of_its_acceptance_in_utc(
    db: asyncpg.Pool, new_year: asyncpg.Pool
):
    accounts = [await an_account(db) for _ in range(5)]
    await db.execute("UPDATE test_clock.start SET real = CLOCK_TIMESTAMP()")

    async def keep_on(account: uuid.UUID) -> int:
        accepted = 0
        for _ in range(40):
            [kept] = await jobs.submit_jobs(new_year, [a_new_job(account)])
            accepted += isinstance(kept, Submission)
            await asyncio.sleep(0.02)
        return accepted

    accepted = sum(await asyncio.gather(*(keep_on(account) for account in accounts)))

    # Without a bonus the start key is the moment of acceptance.
    wrong = await db.fetch(
        "SELECT l.job_id FROM usage_ledger l JOIN test_jobs j ON j.id = l.job_id"
        " WHERE l.month <> DATE_TRUNC('month', j.start_key AT TIME ZONE 'UTC')::DATE"
    )
    assert wrong == []
    months = dict(await db.fetch("SELECT month::TEXT, SUM(runs)::INT FROM usage_ledger GROUP BY month"))
    counts = dict(await db.fetch("SELECT month::TEXT, SUM(test_runs_count)::INT FROM user_test_usage GROUP BY month"))
    assert months == counts
    assert set(months) == {"2026-12-01", "2027-01-01"}
    assert sum(months.values()) == accepted == 200


async def test_finish__Q5_a_test_that_fails_is_charged_and_not_given_back(db: asyncpg.Pool):
    account = await an_account(db)
    await jobs.submit_jobs(db, [a_new_job(account)])
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None

    assert await jobs.finish_job(db, job, DONE)

    assert await entries(db, account) == [("charge", 1)]
    assert await used(db, account) == 1


async def test_cancel__Q6_races_with_claim_end_and_sweep_and_never_leaves_result_and_refund(db: asyncpg.Pool):
    account = await an_account(db, tier="enterprise")
    for number in range(40):
        new = a_new_job(account)
        await jobs.submit_jobs(db, [new])
        held = await jobs.claim_job(db, "w", lease_seconds=-1, job_seconds=60) if number % 2 else None

        async def run(held=held) -> None:
            job = held or await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
            if job is not None:
                await jobs.finish_job(db, job, DONE if job.fence % 3 else LOST)

        async def cancel(new=new) -> None:
            await jobs.cancel_job(db, new.id, seen_by=account, code="cancelled", message="x")

        async def sweep() -> None:
            await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="x")

        await asyncio.gather(*(verb() for verb in (cancel, run, cancel, sweep, run)))

    both = await db.fetch(
        "SELECT j.id, j.status, j.error_code FROM test_jobs j JOIN usage_ledger l ON l.job_id = j.id"
        " AND l.kind = 'refund' WHERE j.status <> 'failed' OR EXISTS"
        " (SELECT FROM job_outcomes o WHERE o.job_id = j.id)"
    )
    assert both == []
    ledger = Counter(await entries(db, account))
    assert ledger["charge", 1] == 40
    assert 0 < ledger["refund", -1] <= 40
    assert await used(db, account) == 40 - ledger["refund", -1]


async def test_submit__Q9_the_same_key_waits_for_the_first_and_then_gets_its_answer(db: asyncpg.Pool):
    account = await an_account(db)
    first, second = a_new_job(account, key="key:same"), a_new_job(account, key="key:same")
    async with db.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        [kept] = await jobs.submit_jobs(slow, [first])
        waiting = asyncio.create_task(jobs.submit_jobs(db, [second]))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await transaction.commit()

    [answer] = await waiting

    assert isinstance(answer, EqualSubmit)
    assert await jobs.read_submission(db, account, "key:same") == kept
    assert await entries(db, account) == [("charge", 1)]


async def test_submit__Q9_the_same_key_takes_over_where_the_first_came_to_nothing(db: asyncpg.Pool):
    account = await an_account(db)
    async with db.acquire() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await jobs.submit_jobs(slow, [a_new_job(account, key="key:same")])
        waiting = asyncio.create_task(jobs.submit_jobs(db, [a_new_job(account, key="key:same")]))
        await asyncio.sleep(0.1)
        await transaction.rollback()

    [answer] = await waiting

    assert isinstance(answer, Submission)
    assert await entries(db, account) == [("charge", 1)]


@pytest.mark.parametrize("count", ["-1", "0", "9223372036854775808", "1.5", "1e400", '"3"', "true"])
def test_submit__Q12_a_count_that_cannot_be_is_a_400_and_charges_nothing(service: Service, count: str):
    alice = service.an_account()
    case = '{"input": "x", "repeat": COUNT, "assert": [{"type": "contains", "value": "x"}]}'.replace("COUNT", count)

    answer = alice.client.post(
        "/api/v1/test-jobs/run",
        content=b'{"package_id": "a", "suite": {"tests": [' + case.encode() + b"]}}",
        headers={"Content-Type": "application/json"},
    )

    assert answer.status_code == 400, answer.text
    assert set(answer.json()) >= {"error", "code"}
    assert service.fetch("SELECT id FROM usage_ledger WHERE user_id = $1", alice.id) == []


async def test_refund__Q4_of_a_job_that_is_lost_twice_is_written_once(db: asyncpg.Pool):
    account = await an_account(db)
    await jobs.submit_jobs(db, [a_new_job(account)])
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None

    ended = await asyncio.gather(*(jobs.finish_job(db, job, LOST) for _ in range(10)))

    assert ended.count(True) == 1
    assert await entries(db, account) == [("charge", 1), ("refund", -1)]
    assert await used(db, account) == 0


async def test_submit__Q1_a_refused_one_says_why_and_keeps_nothing(db: asyncpg.Pool):
    account = await an_account(db)
    await db.execute(SET_USED, account, 100)

    [answer] = await jobs.submit_jobs(db, [a_new_job(account)])

    assert isinstance(answer, Refused)
    assert answer.reason == "quota_exceeded"
    assert await entries(db, account) == []
