"""How often a worker asks Redis for wake-ups."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.worker import func

from server.tasks.calm_worker import CalmWorker
from server.tasks.wake import wake
from server.tasks.wakeups import connect_redis

QUEUE = "arq:calm"  # of no other worker


class Looks:
    """Counts what the worker asks for."""

    def __init__(self, redis: ArqRedis) -> None:
        self.count = 0
        self._ask = redis.zrangebyscore
        redis.zrangebyscore = self.look  # type: ignore[method-assign] # the library's, counted on its way

    async def look(self, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        return await self._ask(*arguments, **options)

    async def within(self, seconds: float) -> int:
        before = self.count
        await asyncio.sleep(seconds)
        return self.count - before


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[ArqRedis]:
    connected = connect_redis(redis_url)
    yield connected
    await connected.aclose()
    await connected.connection_pool.disconnect()  # also what was cancelled in the middle of a command


@contextlib.asynccontextmanager
async def working(redis: ArqRedis, nudged: asyncio.Event) -> AsyncIterator[CalmWorker]:
    worker = CalmWorker(
        functions=[func(cast(Any, wake), timeout=5, keep_result=0)],
        redis_pool=redis, queue_name=QUEUE, handle_signals=False, keep_result=0, log_results=False,
        job_deserializer=redis.job_deserializer, job_serializer=redis.job_serializer,
    )  # fmt: skip
    worker.ctx["nudges"] = (worker.heard, nudged.set)
    task = asyncio.create_task(worker.async_run())
    try:
        yield worker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        if worker.tasks:
            await asyncio.wait(worker.tasks.values())


async def test_worker__looks_rarely_while_nothing_comes_and_often_after_a_wake_up(redis: ArqRedis):
    looks, nudged = Looks(redis), asyncio.Event()
    async with working(redis, nudged):
        await looks.within(0.2)
        quiet = await looks.within(0.5)

        await redis.enqueue_job("wake", _queue_name=QUEUE)
        async with asyncio.timeout(5):
            await nudged.wait()

        assert 1 <= quiet <= 6
        assert await looks.within(0.5) > quiet + 2
