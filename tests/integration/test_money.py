"""Money: however many workers share a month, what it may cost is never passed; and what nobody uses comes back."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable
from decimal import Decimal

import asyncpg
import pytest

from evals.errors import CapReached
from server.domain.jobs import ClaimedJob, JobEnd, Submission
from server.domain.money import NANO, MoneyHeld, MoneyWish, nano_usd
from server.services.spending import Budget
from server.store import jobs
from server.store.money import settle_money
from tests.queue import a_new_job, an_account

CENT = NANO // 100


async def a_claimed_job(db: asyncpg.Pool, account: uuid.UUID) -> ClaimedJob:
    assert isinstance((await jobs.submit_jobs(db, [a_new_job(account)]))[0], Submission)
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None
    return job


def a_budget(db: asyncpg.Pool, job: ClaimedJob, *, asked: list[MoneyWish] | None = None) -> Budget:
    async def settle(wish: MoneyWish) -> MoneyHeld:
        if asked is not None:
            asked.append(wish)
        held = await settle_money(db, job, wish)
        assert held is not None
        return held

    return Budget(cap=job.money_cap, spent=job.spent, settle=settle, sleep=soon)


async def soon(_: float) -> None:
    await asyncio.sleep(0.01)


async def give_caps(db: asyncpg.Pool, account: uuid.UUID, *, job: str, month: str) -> None:
    await db.execute(
        "UPDATE users SET money_per_job_usd = $2, money_per_month_usd = $3 WHERE id = $1",
        account, Decimal(job), Decimal(month),
    )  # fmt: skip


async def month_of(db: asyncpg.Pool, account: uuid.UUID) -> tuple[Decimal, Decimal]:
    """What the month has cost, and what is held of it."""
    row = await db.fetchrow("SELECT cost_usd, held_usd FROM user_test_usage WHERE user_id = $1", account)
    return row["cost_usd"], row["held_usd"]


class Provider:
    """Calls that take a moment and cost what they cost; counts what it is owed and what is under way."""

    def __init__(self, cost: Callable[[], int]) -> None:
        self.owed = 0
        self.calls = 0
        self._cost = cost

    async def call(self, budget: Budget, most: int) -> bool:
        """Whether the call was made."""
        try:
            await budget.reserve(most)
        except CapReached:
            return False
        cost = self._cost()
        await asyncio.sleep(0.005)
        self.owed += cost
        self.calls += 1
        budget.settle(most, cost)
        await budget.book()
        return True


async def end(db: asyncpg.Pool, job: ClaimedJob, budget: Budget) -> None:
    cost = float(Decimal(budget.spent) / NANO)
    assert await jobs.finish_job(db, job, JobEnd(status="completed", conclusion="passed", cost_usd=cost))


async def test_budget__twenty_calls_at_once_before_a_nearly_used_cap_of_the_job(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="0.05", month="100")
    job = await a_claimed_job(db, account)
    budget, provider = a_budget(db, job), Provider(lambda: CENT)

    made = await asyncio.gather(*(provider.call(budget, CENT) for _ in range(20)))

    assert sum(made) == 5
    assert budget.spent == 5 * CENT
    await end(db, job, budget)
    assert await month_of(db, account) == (Decimal("0.05"), 0)


async def test_budget__waits_for_what_calls_under_way_leave(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="0.05", month="100")
    job = await a_claimed_job(db, account)
    budget, provider = a_budget(db, job), Provider(lambda: CENT // 10)

    made = await asyncio.gather(*(provider.call(budget, CENT) for _ in range(20)))

    assert all(made), "each may cost a cent, and costs a tenth of one"
    assert budget.spent == 2 * CENT


async def test_budget__Q14_a_call_that_costs_more_than_foreseen_is_the_last(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="0.05", month="100")
    job = await a_claimed_job(db, account)
    budget, provider = a_budget(db, job), Provider(lambda: 6 * CENT)

    made = [await provider.call(budget, CENT) for _ in range(3)]

    assert made == [True, False, False]
    await end(db, job, budget)
    assert await month_of(db, account) == (Decimal("0.06"), 0)


async def test_budget__most_calls_need_no_round_trip(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="100", month="1000")
    asked: list[MoneyWish] = []
    budget = a_budget(db, await a_claimed_job(db, account), asked=asked)

    for _ in range(80):
        await budget.reserve(CENT)
        budget.settle(CENT, CENT)

    assert len(asked) == 10


@pytest.mark.parametrize("seed", range(5))
async def test_month__Q2_eight_jobs_at_once_never_pass_it_and_use_it_up(db: asyncpg.Pool, seed: int):
    chance = random.Random(seed)  # noqa: S311 - prices, no secrets
    account = await an_account(db, tier="enterprise")
    await give_caps(db, account, job="1", month="0.5")
    held = [await a_claimed_job(db, account) for _ in range(8)]
    budgets = [a_budget(db, job) for job in held]
    provider = Provider(lambda: chance.randrange(CENT // 2, CENT + 1))

    async def run(job: ClaimedJob, budget: Budget) -> None:
        await asyncio.gather(*(provider.call(budget, CENT) for _ in range(30)))
        await end(db, job, budget)

    await asyncio.gather(*map(run, held, budgets))

    cost, left_held = await month_of(db, account)
    assert cost == pytest.approx(Decimal(provider.owed) / NANO, abs=Decimal("0.00001"))
    assert Decimal("0.5") - Decimal("0.01") < cost <= Decimal("0.5"), f"seed {seed}"
    assert left_held == 0
    assert await db.fetchval("SELECT SUM(cost_usd) FROM test_jobs") == cost


async def test_month__a_dead_holder_gives_back_what_it_held_and_not_what_it_spent(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="1", month="0.10")
    dead = await a_claimed_job(db, account)
    budget = a_budget(db, dead)
    await budget.reserve(4 * CENT)
    budget.settle(4 * CENT, 3 * CENT)
    await budget.book()
    await budget.reserve(5 * CENT)  # a call that its worker's death cuts off
    assert await month_of(db, account) == (Decimal("0.03"), Decimal("0.05"))

    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second'")
    assert await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="lost") == 1

    assert await month_of(db, account) == (Decimal("0.03"), 0)
    heir = await jobs.claim_job(db, "other", lease_seconds=15, job_seconds=3600)
    assert heir is not None
    assert nano_usd(Decimal("0.03")) == heir.spent
    assert await settle_money(db, dead, MoneyWish(spent=9 * CENT, reserved=0, needed=CENT, wanted=CENT)) is None
    assert await month_of(db, account) == (Decimal("0.03"), 0)
    next_budget = a_budget(db, heir)
    assert [await Provider(lambda: CENT).call(next_budget, CENT) for _ in range(9)] == [True] * 7 + [False] * 2


@pytest.mark.parametrize("how", ["release", "fail", "finish"])
async def test_month__whatever_ends_a_lease_gives_back_what_it_held(db: asyncpg.Pool, how: str):
    account = await an_account(db)
    job = await a_claimed_job(db, account)
    await a_budget(db, job).reserve(CENT)
    assert (await month_of(db, account))[1] > 0

    if how == "release":
        assert await jobs.release_job(db, job)
    elif how == "finish":
        assert await jobs.finish_job(db, job, JobEnd(status="failed", error_code="x", refund_reason="x"))
    else:
        await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second'")
        assert await jobs.sweep_expired(db, most_attempts=1, code="infrastructure", message="lost") == 1

    assert await month_of(db, account) == (0, 0)


async def test_month__waits_for_what_other_jobs_may_give_back(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="1", month="0.05")
    one, other = await a_claimed_job(db, account), await a_claimed_job(db, account)
    holder, waiter = a_budget(db, one), a_budget(db, other)
    await holder.reserve(4 * CENT)

    waiting = asyncio.create_task(waiter.reserve(3 * CENT))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    holder.settle(4 * CENT, CENT)
    await holder.book()

    await asyncio.wait_for(waiting, 2)


async def test_month__that_is_used_up_stops_every_job_and_says_until_when(db: asyncpg.Pool):
    account = await an_account(db)
    await give_caps(db, account, job="1", month="0.05")
    one, other = await a_claimed_job(db, account), await a_claimed_job(db, account)
    budget = a_budget(db, one)
    await budget.reserve(4 * CENT)
    budget.settle(4 * CENT, 4 * CENT)
    await budget.book()

    tries = [a_budget(db, other).reserve(2 * CENT), budget.reserve(2 * CENT)]
    refused = await asyncio.gather(*tries, return_exceptions=True)

    assert [type(error) for error in refused] == [CapReached, CapReached]
    assert "first of the next month" in str(refused[0])


async def test_money__a_job_has_the_caps_of_the_tier_it_was_submitted_under(db: asyncpg.Pool):
    account = await an_account(db, tier="pro")
    assert isinstance((await jobs.submit_jobs(db, [a_new_job(account)]))[0], Submission)
    await db.execute("UPDATE users SET subscription_tier = 'free' WHERE id = $1", account)

    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=7200)

    assert job is not None
    assert (job.money_cap, job.answer_tokens, round(job.seconds_left, -1)) == (NANO, 8192, 3600)
    await a_budget(db, job).reserve(50 * CENT)
