"""Ends of deliveries that come together are kept by one statement: a flood of them costs few commits."""

from __future__ import annotations

import asyncio

import asyncpg

from server.domain.deliveries import ClaimedDelivery, Ended
from server.store import deliveries

GATHER_SECONDS = 0.003  # what was claimed together and is simple ends together


class DeliveryEnds:
    """Keeps what came of deliveries."""

    def __init__(self, db: asyncpg.Pool) -> None:
        self._db = db
        self._waiting: list[tuple[ClaimedDelivery, Ended, asyncio.Future[bool]]] = []
        self._storing: asyncio.Task[None] | None = None

    async def end(self, delivery: ClaimedDelivery, ended: Ended) -> bool:
        """Whether it was still its handler's to end. Raises the database's trouble."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, ended, stored))
        if self._storing is None or self._storing.done():
            self._storing = asyncio.create_task(self._store(), name="ends of deliveries")
        return await stored

    async def _store(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        while self._waiting:
            now, self._waiting = self._waiting, []
            try:
                done = await deliveries.end_deliveries(self._db, [(one, ended) for one, ended, _ in now])
            except Exception as trouble:  # noqa: BLE001 -- each who waits is told
                for _, _, stored in now:
                    if not stored.done():
                        stored.set_exception(trouble)
                continue
            for one, _, stored in now:
                if not stored.done():
                    stored.set_result(one.id in done)
