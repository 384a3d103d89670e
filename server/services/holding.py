"""A job's models, which can be called for as long as the job is surely ours."""

from __future__ import annotations

import asyncio
import time

import msgspec

from evals.agents.tasks import Meter
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Completion


class Hold:
    """Until when the lease is surely ours, by this process's monotonic clock; its keeper moves it on."""

    def __init__(self, *, sure_until: float) -> None:
        self.sure_until = sure_until

    async def wait(self) -> None:
        """Returns at once while the lease is sure. After that it waits for the keeper, which ends everybody.

        Asked right before each attempt: a call may have waited long for a slot, or for its next try.

        A process that was stopped for longer than its lease goes on here in the middle of its work, before its keeper
        had a turn: what it would call now another worker has called, and paid for, already.
        """
        if time.monotonic() >= self.sure_until:
            await asyncio.get_running_loop().create_future()


class HeldModels(ModelPool):
    """The worker's models, called under a hold. What they hold open stays theirs: it needs no closing."""

    def __init__(self, models: ModelPool, hold: Hold) -> None:
        super().__init__(models.catalogue)
        self._models = models
        self._hold = hold

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        """As ModelPool.complete."""
        if request.meter is not None:
            request = msgspec.structs.replace(request, meter=HeldMeter(request.meter, self._hold))
        return await self._models.complete_while(model_name, request, allowed=self._hold.wait)


class HeldMeter:
    """Admits an agent's calls under a hold."""

    def __init__(self, meter: Meter, hold: Hold) -> None:
        self._meter = meter
        self._hold = hold

    async def admit(self, most_usd: float | None) -> None:
        """As the meter's own, and only while the lease is sure."""
        await self._meter.admit(most_usd)
        await self._hold.wait()

    def settle(self, most_usd: float | None, cost_usd: float | None) -> None:
        """As the meter's own."""
        self._meter.settle(most_usd, cost_usd)
