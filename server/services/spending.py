"""A job's money: what each call may cost is reserved before it is made, and settled by what it did cost."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

import msgspec

from evals.errors import CapReached, ProviderError
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.pricing import most_usd
from evals.types import Attempt, Completion
from server.domain.money import NANO, MoneyHeld, MoneyWish, nano_usd

# One round trip to the database covers about so many calls.
CALLS_AHEAD = 8
# How soon to ask again for money that other jobs of the account may give back.
ASK_AGAIN_SECONDS = 0.2

JOB_CAP = "The job's money cap of {cap} leaves no room for another call, so the rest was not run."
MONTH_CAP = (
    "The account's money for this month leaves no room for another call, so the rest was not run; it starts anew on "
    "the first of the next month, UTC."
)
# Said once, beside what a cap has stopped.
ADVICE = (
    "Test fewer cases, repeats or models, or cheaper ones; `prpm test --estimate` tells the cost beforehand, and "
    "`prpm usage` your caps."
)


class Budget:
    """What one job may still spend, of its own cap and of its account's month. All figures are nano-USD.

    The month is shared through the database: the job holds a part of it ahead, so that most calls need no round trip.
    One budget a lease and event loop; safe for concurrent calls.
    """

    def __init__(
        self,
        *,
        cap: int,
        spent: int,
        settle: Callable[[MoneyWish], Awaitable[MoneyHeld]],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """`spent` by earlier leases counts against `cap`. `settle` asks the database; `sleep` is there for tests."""
        self.spent = spent
        self._cap = cap
        self._settle = settle
        self._sleep = sleep
        self._reserved = 0
        self._told = spent  # what the database knows of `spent`
        self._held = 0  # what it lets us spend beyond that
        self._turn = asyncio.Lock()
        self._news = asyncio.Event()  # of this moment: the next settled call sets it, and makes a new one
        self._stopped: str | None = None

    async def reserve(self, amount: int) -> None:
        """The amount is ours to spend. Waits while calls under way may leave enough; raises CapReached after that.

        Once it was raised no later call is admitted either: which trials run must not depend on their price.
        """
        while True:
            async with self._turn:
                retry = await self._admit(amount)
            if retry is None:
                return
            await retry()

    def settle(self, reserved: int, cost: int) -> None:
        """A call ended: what was reserved for it is free again, and `cost` is spent."""
        self._reserved -= reserved
        self.spent += cost
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def book(self) -> None:
        """The database knows what was spent so far. No round trip when nothing was."""
        if self.spent == self._told:
            return
        async with self._turn:
            held = max(self._held - (self.spent - self._told), self._reserved)
            await self._tell(needed=self._reserved, wanted=held)

    async def _admit(self, amount: int) -> Callable[[], Awaitable[object]] | None:
        """None: reserved. Otherwise what to wait for before the next try. Raises CapReached."""
        news = self._news
        if self._stopped is not None:
            raise CapReached(self._stopped)
        if self.spent + self._reserved + amount > self._cap:
            return news.wait if self._reserved else self._stop(JOB_CAP.format(cap=_dollars(self._cap)))
        if self._left() < amount:
            had_calls = bool(self._reserved)
            ahead = self._reserved + CALLS_AHEAD * amount
            answer = await self._tell(
                needed=self._reserved + amount,
                wanted=max(self._reserved + amount, min(ahead, self._cap - self.spent)),
            )
            if not answer.is_granted:
                if had_calls:
                    return news.wait
                return self._ask_again if answer.others_hold else self._stop(MONTH_CAP)
        self._reserved += amount
        return None

    def _left(self) -> int:
        return self._held - (self.spent - self._told) - self._reserved

    async def _tell(self, *, needed: int, wanted: int) -> MoneyHeld:
        spent = self.spent
        answer = await self._settle(MoneyWish(spent=spent, reserved=self._reserved, needed=needed, wanted=wanted))
        # Calls may have ended meanwhile; none was admitted, as whoever comes here has the turn.
        self._told, self._held = spent, answer.held
        return answer

    async def _ask_again(self) -> None:
        await self._sleep(ASK_AGAIN_SECONDS)

    def _stop(self, reason: str) -> NoReturn:
        self._stopped = reason
        raise CapReached(reason)


class SpendingModels(ModelPool):
    """A job's models, called within its budget. What they hold open stays theirs: it needs no closing."""

    def __init__(self, models: ModelPool, budget: Budget) -> None:
        super().__init__(models.catalogue)
        self._models = models
        self._budget = budget

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        """As ModelPool.complete, and CapReached when it may cost more than there is.

        What ends without a count is taken at its most: time-outs, answers without usage, calls that are cut off.
        """
        if request.agent is not None:
            # Nobody knows how many calls it will make, so each is paid for by itself.
            metered = msgspec.structs.replace(request, meter=BudgetMeter(self._budget, model_name))
            return await self._models.complete(model_name, metered)
        most = self._most(model_name, request)
        if most == 0:
            return await self._models.complete(model_name, request)
        await self._budget.reserve(most)
        cost = most
        try:
            completion = await self._models.complete(model_name, request)
            own = most if completion.cost_usd is None else nano_usd(completion.cost_usd)
            cost = own + most * _timed_out(completion.attempts)
            return completion
        except ProviderError as error:
            cost = most * max(_timed_out(error.attempts), int(error.timed_out))
            raise
        finally:
            self._budget.settle(most, cost)

    def _most(self, model_name: str, request: CompletionRequest) -> int:
        """Nano-USD. Raises ProviderError for a model without a known price, and what Catalogue.resolve raises."""
        usd = most_usd(self.catalogue.resolve(model_name), request)
        if usd is None:
            raise ProviderError(f"{model_name} has no known price, so it is not called.", retryable=False)
        return math.ceil(usd * NANO)


class BudgetMeter:
    """Pays for the calls of one agent out of its job's budget."""

    def __init__(self, budget: Budget, model_name: str) -> None:
        self._budget = budget
        self._model_name = model_name

    async def admit(self, most_usd: float | None) -> None:
        """Reserved. Raises CapReached, and ProviderError for a model without a known price."""
        if most_usd is None:
            raise ProviderError(f"{self._model_name} has no known price, so it is not called.", retryable=False)
        if most_usd:
            await self._budget.reserve(math.ceil(most_usd * NANO))

    def settle(self, most_usd: float | None, cost_usd: float | None) -> None:
        """What was reserved is free again, and the cost is spent: all of it, where nobody knows."""
        if most_usd:
            most = math.ceil(most_usd * NANO)
            self._budget.settle(most, most if cost_usd is None else nano_usd(cost_usd))


def _timed_out(attempts: Sequence[Attempt]) -> int:
    return sum(attempt.timed_out for attempt in attempts)


def _dollars(nano: int) -> str:
    amount = f"{nano / NANO:.6f}"
    return "$" + amount[:-4] + amount[-4:].rstrip("0")
