"""Submits that leave together in one statement: each gets the answer that it would get alone."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from server.domain.accounts import Credential
from server.domain.errors import QuotaExceeded
from server.domain.jobs import EqualSubmit, Refused, Submission
from server.domain.packages import PackageRef
from server.services.admission import MOST_TOGETHER, Admission
from server.services.identity import hash_token, issue_token
from tests.queue import a_new_job, an_account


async def moments(db: asyncpg.Pool) -> int:
    """How many transactions made the jobs that there are: NOW() is one in each."""
    return int(await db.fetchval("SELECT COUNT(DISTINCT created_at) FROM test_jobs"))


async def leave_runs(db: asyncpg.Pool, account: uuid.UUID, *, left: int) -> None:
    """A month of the plus tier with so many runs left."""
    await db.execute(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 100 - $2)",
        account,
        left,
    )


async def a_token_of(db: asyncpg.Pool, account: uuid.UUID) -> Credential:
    username = await db.fetchval("SELECT username FROM users WHERE id = $1", account)
    issued = await issue_token(db, username, name="test")
    return Credential(token_hash=hash_token(issued.token))


async def test_admission__submits_that_arrive_together_are_kept_together(db: asyncpg.Pool):
    accounts = [await an_account(db) for _ in range(MOST_TOGETHER)]
    admission = Admission(db)

    answers = await asyncio.gather(*(admission.submit(a_new_job(account)) for account in accounts))

    assert all(isinstance(answer, Submission) for answer in answers)
    assert await moments(db) == 1
    assert sorted(answer.position for answer in answers if isinstance(answer, Submission)) == [
        number + 1 for number in range(MOST_TOGETHER)
    ]
    charged = await db.fetch("SELECT user_id, test_runs_count FROM user_test_usage")
    assert {row["user_id"]: row["test_runs_count"] for row in charged} == dict.fromkeys(accounts, 1)


async def test_admission__each_of_a_mixed_batch_gets_its_own_answer(db: asyncpg.Pool):
    good, full, free, lost = [await an_account(db, tier=tier) for tier in ("plus", "plus", "free", "plus")]
    await leave_runs(db, full, left=0)
    admission = Admission(db)

    kept, month_full, free_tier, nobody, no_package = await asyncio.gather(
        admission.submit(a_new_job(good)),
        admission.submit(a_new_job(full)),
        admission.submit(a_new_job(free)),
        admission.submit(a_new_job(good, credential=Credential(token_hash="0" * 64))),
        admission.submit(a_new_job(lost, package=PackageRef(name="@nobody/nothing"))),
    )

    assert isinstance(kept, Submission)
    assert [answer.reason for answer in (month_full, free_tier, no_package) if isinstance(answer, Refused)] == [
        "quota_exceeded",
        "free_tier",
        "package_not_found",
    ]
    assert nobody is None
    assert await db.fetchval("SELECT COUNT(*) FROM test_jobs") == 1
    assert await db.fetchval("SELECT COUNT(*) FROM submissions") == 1
    assert await db.fetchval("SELECT COUNT(*) FROM usage_ledger") == 1


async def test_admission__Q1_one_account_by_two_tokens_is_charged_for_both(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    tokens = [await a_token_of(db, account) for _ in range(2)]
    admission = Admission(db)

    answers = await asyncio.gather(
        *(admission.submit(a_new_job(account, credential=token)) for token in tokens),
        admission.submit(a_new_job(other)),
    )

    assert [type(answer) for answer in answers] == [Submission] * 3
    assert await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account) == 2
    assert await db.fetchval("SELECT COUNT(*) FROM usage_ledger WHERE user_id = $1", account) == 2


async def test_admission__Q2_the_last_run_goes_to_one_and_spoils_no_neighbour(db: asyncpg.Pool):
    account, other = await an_account(db), await an_account(db)
    await leave_runs(db, account, left=1)
    tokens = [await a_token_of(db, account) for _ in range(3)]
    admission = Admission(db)

    *answers, neighbour = await asyncio.gather(
        *(admission.submit(a_new_job(account, credential=token)) for token in tokens),
        admission.submit(a_new_job(other)),
        return_exceptions=True,
    )

    assert isinstance(neighbour, Submission)
    assert sum(isinstance(answer, Submission) for answer in answers) == 1
    for answer in answers:
        assert isinstance(answer, Submission | QuotaExceeded) or (
            isinstance(answer, Refused) and answer.reason == "quota_exceeded"
        )
    assert await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account) == 100


async def test_admission__equal_submits_of_one_caller_are_one_job(db: asyncpg.Pool):
    account = await an_account(db)
    admission = Admission(db)

    answers = await asyncio.gather(*(admission.submit(a_new_job(account, key=None)) for _ in range(5)))

    assert sum(isinstance(answer, Submission) for answer in answers) == 1
    assert sum(isinstance(answer, EqualSubmit) for answer in answers) == 4
    assert await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account) == 1


async def test_admission__a_repeat_of_the_months_last_run_is_still_known(db: asyncpg.Pool):
    account = await an_account(db)
    await leave_runs(db, account, left=1)
    admission = Admission(db)
    assert isinstance(await admission.submit(a_new_job(account, key=None)), Submission)

    assert isinstance(await admission.submit(a_new_job(account, key=None)), EqualSubmit)


async def test_admission__a_caller_who_left_while_waiting_keeps_and_pays_nothing(db: asyncpg.Pool):
    gone, stays = await an_account(db), await an_account(db)
    admission = Admission(db)
    leaving = asyncio.create_task(admission.submit(a_new_job(gone)))
    staying = asyncio.create_task(admission.submit(a_new_job(stays)))
    await asyncio.sleep(0)  # both wait in line, and their statement has not begun

    leaving.cancel()

    assert isinstance(await staying, Submission)
    assert leaving.cancelled() or leaving.cancelling()
    assert await db.fetchval("SELECT COUNT(*) FROM test_jobs WHERE user_id = $1", gone) == 0


async def test_admission__trouble_of_the_database_reaches_everybody_and_the_next_submit_works(db: asyncpg.Pool):
    accounts = [await an_account(db) for _ in range(3)]
    admission = Admission(db)
    await db.execute("ALTER TABLE test_jobs RENAME TO elsewhere")

    answers = await asyncio.gather(*(admission.submit(a_new_job(a)) for a in accounts), return_exceptions=True)
    await db.execute("ALTER TABLE elsewhere RENAME TO test_jobs")

    assert all(isinstance(answer, asyncpg.UndefinedTableError) for answer in answers)
    assert isinstance(await admission.submit(a_new_job(accounts[0])), Submission)


@pytest.mark.parametrize("count", [1, MOST_TOGETHER * 3])
async def test_admission__nobody_is_left_waiting(db: asyncpg.Pool, count: int):
    accounts = [await an_account(db) for _ in range(4)]
    admission = Admission(db)

    answers = await asyncio.gather(*(admission.submit(a_new_job(accounts[n % 4])) for n in range(count)))

    assert [type(answer) for answer in answers] == [Submission] * count
