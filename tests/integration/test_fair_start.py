"""Who starts when: real claims by the slots of many workers, looked at from outside."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter

import asyncpg
import pytest

from chaos.checks import OVERRUNS
from server.domain.jobs import JobEnd, Submission
from server.store import jobs
from tests.queue import a_new_job, an_account

END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}")

BACKLOG = """
INSERT INTO test_jobs (user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source,
  models_requested, framework, trials_total, start_key, submit_position, submit_wait_seconds, submit_runs_used,
  submit_tier)
SELECT user_id, submitted_by, package_id, package_version, snapshot_id, suite_id, suite_source, models_requested,
  framework, trials_total, start_key + n * INTERVAL '1 millisecond', 0, 0, 1, submit_tier
FROM test_jobs, GENERATE_SERIES(1, $2::INT) n WHERE id = $1
"""


async def submit(db: asyncpg.Pool, account: uuid.UUID) -> Submission:
    [kept] = await jobs.submit_jobs(db, [a_new_job(account)])
    assert isinstance(kept, Submission)
    return kept


async def backlog(db: asyncpg.Pool, account: uuid.UUID, *, count: int, minutes_ago: float = 0) -> None:
    """So many waiting jobs of the account, a millisecond apart."""
    first = await submit(db, account)
    await db.execute(
        "UPDATE test_jobs SET start_key = start_key - MAKE_INTERVAL(mins => $2) WHERE id = $1",
        first.job_id, minutes_ago,
    )  # fmt: skip
    await db.execute(BACKLOG, first.job_id, count - 1)


async def claim(db: asyncpg.Pool):
    return await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=600)


async def order_of_starts(db: asyncpg.Pool, *, slots: int, most: int) -> list[uuid.UUID]:
    """The accounts of the jobs that start, one after the other, on so many slots; the oldest one ends first."""
    order, held = [], []
    while len(order) < most:
        job = await claim(db) if len(held) < slots else None
        if job is None:
            if not held:
                break
            assert await jobs.finish_job(db, held.pop(0), END)
            continue
        held.append(job)
        order.append(await db.fetchval("SELECT user_id FROM test_jobs WHERE id = $1", job.id))
    return order


async def test_start__a_plus_job_behind_ten_thousand_of_one_enterprise_starts_next_where_slots_exceed_its_limit(db):
    enterprise, plus = await an_account(db, tier="enterprise"), await an_account(db)
    await backlog(db, enterprise, count=10_000, minutes_ago=5)
    await submit(db, plus)

    order = await order_of_starts(db, slots=21, most=21)

    assert Counter(order) == {enterprise: 20, plus: 1}


async def test_start__a_plus_job_passes_every_enterprise_job_that_came_ten_minutes_later(db: asyncpg.Pool):
    enterprise, plus = await an_account(db, tier="enterprise"), await an_account(db)
    waiting = await submit(db, plus)
    # It has waited for just over ten minutes, while the other account kept sending.
    await db.execute(
        "UPDATE test_jobs SET start_key = start_key - INTERVAL '10 minutes 1 second' WHERE id = $1", waiting.job_id
    )
    await backlog(db, enterprise, count=10_000)

    job = await claim(db)

    assert job is not None
    assert job.id == waiting.job_id


async def test_start__an_enterprise_job_of_nine_minutes_later_goes_first(db: asyncpg.Pool):
    enterprise, plus = await an_account(db, tier="enterprise"), await an_account(db)
    waiting = await submit(db, plus)
    await db.execute("UPDATE test_jobs SET start_key = start_key - INTERVAL '9 minutes' WHERE id = $1", waiting.job_id)

    later = await submit(db, enterprise)

    job = await claim(db)
    assert job is not None
    assert job.id == later.job_id


async def test_start__accounts_of_one_tier_share_the_slots_however_much_one_has_waiting(db: asyncpg.Pool):
    greedy = await an_account(db)
    others = [await an_account(db) for _ in range(4)]
    await backlog(db, greedy, count=1_000, minutes_ago=30)
    for account in others:
        await backlog(db, account, count=20)

    order = await order_of_starts(db, slots=10, most=60)

    assert Counter(order) == dict.fromkeys([greedy, *others], 12)


async def test_start__equal_heads_go_to_the_account_that_runs_least(db: asyncpg.Pool):
    busy, idle = await an_account(db), await an_account(db)
    await submit(db, busy)
    assert await claim(db) is not None
    for account in (busy, idle):
        await submit(db, account)
    await db.execute("UPDATE test_jobs SET start_key = '2026-01-01' WHERE status = 'queued'")

    job = await claim(db)

    assert job is not None
    assert await db.fetchval("SELECT user_id FROM test_jobs WHERE id = $1", job.id) == idle


@pytest.mark.parametrize("workers", [30])
async def test_claim__Q2_V6_many_workers_never_exceed_a_tier_as_seen_from_outside(db: asyncpg.Pool, workers: int):
    accounts = [await an_account(db, tier=tier) for tier in ("plus", "plus", "pro", "enterprise")]
    for account in accounts:
        await backlog(db, account, count=40)
    overruns, over = [], asyncio.Event()

    async def look() -> int:
        samples = 0
        while not over.is_set():
            overruns.extend(await db.fetch(OVERRUNS))
            samples += 1
            await asyncio.sleep(0.005)
        return samples

    async def slot() -> None:
        while job := await claim(db):
            await asyncio.sleep(0.003)
            assert await jobs.finish_job(db, job, END)

    looking = asyncio.create_task(look())
    while await db.fetchval("SELECT EXISTS (SELECT FROM test_jobs WHERE status = 'queued')"):
        await asyncio.gather(*(slot() for _ in range(workers)))
    over.set()

    assert await looking >= 20
    assert overruns == []
    assert await db.fetchval("SELECT COUNT(*) FROM test_jobs WHERE status = 'completed'") == 160


async def test_claim__Q13_the_limit_is_that_of_the_moment_of_claiming(db: asyncpg.Pool):
    account = await an_account(db, tier="pro")
    for _ in range(8):
        await submit(db, account)
    running = [await claim(db) for _ in range(5)]
    assert None not in running

    await db.execute("UPDATE users SET subscription_tier = 'plus' WHERE id = $1", account)
    after_downgrade = [await jobs.finish_job(db, job, END) and await claim(db) for job in running[:3] if job]
    one_more = await jobs.finish_job(db, running[3], END) and await claim(db)
    await db.execute("UPDATE users SET subscription_tier = 'pro' WHERE id = $1", account)
    after_upgrade = [await claim(db) for _ in range(2)]

    assert after_downgrade == [None, None, None]
    assert one_more
    assert None not in after_upgrade
    used = await db.fetchval("SELECT test_runs_count FROM user_test_usage WHERE user_id = $1", account)
    assert used == 8


async def test_position__is_the_place_in_the_order_of_start_keys_at_submit_and_later(db: asyncpg.Pool):
    accounts = {tier: [await an_account(db, tier=tier) for _ in range(2)] for tier in ("plus", "pro", "enterprise")}
    sent = []
    for _ in range(3):
        for group in accounts.values():
            for account in group:
                sent.append(await submit(db, account))
                keys = await db.fetch("SELECT id FROM test_jobs WHERE status = 'queued' ORDER BY start_key, id")
                assert sent[-1].position == [row["id"] for row in keys].index(sent[-1].job_id) + 1

    keys = await db.fetch("SELECT id FROM test_jobs WHERE status = 'queued' ORDER BY start_key, id")
    for place, row in enumerate(keys, 1):
        job = await jobs.read_job(db, row["id"], seen_by=None)
        assert job is not None
        assert job.position == place


@pytest.mark.parametrize("tier", ["plus", "enterprise"])
async def test_position__is_exact_behind_a_long_queue(db: asyncpg.Pool, tier: str):
    big, middle, late = await an_account(db, tier="enterprise"), await an_account(db), await an_account(db, tier=tier)
    await backlog(db, big, count=25_000, minutes_ago=60)
    await backlog(db, middle, count=500)  # behind an enterprise job of now, before a plus one

    kept = await submit(db, late)

    expected = 25_001 + (500 if tier == "plus" else 0)
    # The jobs of `middle` were given keys of the coming half second.
    in_front = await db.fetchval(
        "SELECT COUNT(*) FROM test_jobs WHERE status = 'queued' AND (start_key, id) <"
        " (SELECT start_key, id FROM test_jobs WHERE id = $1)",
        kept.job_id,
    )
    assert kept.position == in_front + 1
    assert 25_001 <= kept.position <= expected
    job = await jobs.read_job(db, kept.job_id, seen_by=None)
    assert job is not None
    assert job.position == kept.position
    first = await db.fetchval("SELECT id FROM test_jobs WHERE status = 'queued' ORDER BY start_key OFFSET 9998 LIMIT 1")
    job = await jobs.read_job(db, first, seen_by=None)
    assert job is not None
    assert job.position == 9_999


async def test_position__far_from_both_ends_is_left_out_rather_than_wrong(db: asyncpg.Pool):
    account = await an_account(db, tier="enterprise")
    await backlog(db, account, count=20_002)
    middle = await db.fetchval("SELECT id FROM test_jobs ORDER BY start_key OFFSET 10000 LIMIT 1")

    job = await jobs.read_job(db, middle, seen_by=None)

    assert job is not None
    assert job.position is None


async def wait_ten_minutes(db: asyncpg.Pool, account: uuid.UUID, *, seconds: float = 0) -> None:
    """The account had no start for ten minutes and so many seconds."""
    await db.execute(
        "UPDATE waiting_accounts SET due_at = due_at - INTERVAL '10 minutes' - MAKE_INTERVAL(secs => $2)"
        " WHERE user_id = $1",
        account,
        seconds,
    )


async def test_start__behind_ten_thousand_of_one_account_everybody_starts_once_in_ten_minutes_on_a_single_slot(
    db: asyncpg.Pool,
):
    enterprise, plus, pro = [await an_account(db, tier=tier) for tier in ("enterprise", "plus", "pro")]
    await backlog(db, enterprise, count=10_000, minutes_ago=60)
    await backlog(db, plus, count=2)
    await backlog(db, pro, count=1)
    assert await order_of_starts(db, slots=1, most=3) == [enterprise] * 3

    await wait_ten_minutes(db, plus)
    await wait_ten_minutes(db, pro, seconds=1)

    assert await order_of_starts(db, slots=1, most=5) == [pro, plus, enterprise, enterprise, enterprise]
    # What has started counts anew.
    await wait_ten_minutes(db, plus)
    assert await order_of_starts(db, slots=1, most=2) == [plus, enterprise]


async def test_start__who_is_due_still_starts_no_more_than_its_tier_allows(db: asyncpg.Pool):
    plus, other = await an_account(db), await an_account(db)
    await backlog(db, plus, count=5, minutes_ago=60)
    assert [await claim(db), await claim(db)]
    await wait_ten_minutes(db, plus)
    await submit(db, other)

    job = await claim(db)

    assert job is not None
    assert job.account_id == other
    assert await claim(db) is None
