"""Sends wake-ups through arq. Best effort: PostgreSQL has the jobs, and a sweep finds what a lost one leaves."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import msgspec
import structlog
from arq.connections import ArqRedis
from arq.constants import default_queue_name
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from server.domain.jobs import Wakeups

log = structlog.get_logger()

# A wake-up nudges one worker's loop, which then claims all it can: more than this at a time help nobody.
MOST_AT_ONCE = 20
MOST_LEFT_OVER = 50
# The first wake-up of a burst leaves at once, the rest of it together.
PAUSE_SECONDS = 0.005

# msgpack, as with pickle whoever can write to Redis would run code in the workers.
encode_task = msgspec.msgpack.Encoder(enc_hook=str).encode
decode_task = msgspec.msgpack.Decoder().decode


def connect_redis(url: str, *, attempts: int = 3) -> ArqRedis:
    """A client with the time-outs that arq's own settings lack: without them a cut network hangs it silently."""
    pool = ConnectionPool.from_url(
        url,
        socket_connect_timeout=2,
        **({} if url.startswith("unix:") else {"socket_keepalive": True}),
        socket_timeout=5,
        health_check_interval=10,
        retry=Retry(ExponentialBackoff(cap=1, base=0.05), attempts),
        retry_on_error=[RedisConnectionError, OSError],
    )
    return ArqRedis(
        connection_pool=pool,
        job_serializer=encode_task,
        job_deserializer=decode_task,
        expires_extra_ms=86_400_000,
    )


class ArqWakeups:
    """Wake-ups leave from a task of their own, so that no submit waits for Redis or fails with it."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._owed = 0
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def wake(self) -> None:
        """Owe the workers one nudge. Returns at once, never raises."""
        self._owed = min(self._owed + 1, MOST_AT_ONCE)
        self._news.set()

    async def start(self) -> None:
        """Begin to send."""
        self._task = asyncio.create_task(self._send(), name="wake-ups")

    async def aclose(self) -> None:
        """Stop sending; what is owed is left to the sweep."""
        if self._task is not None:
            await end_task(self._task, patience_seconds=0.2)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()

    async def _send(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            owed, self._owed = self._owed, 0
            try:
                await self._send_wakeups(owed)
            except (RedisError, OSError, TimeoutError) as error:
                log.warning("wake-up not sent", reason=type(error).__name__)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _send_wakeups(self, count: int) -> None:
        # Left-overs mean that no worker is there to be nudged; its first sweep will look anyway.
        if await self._redis.zcard(default_queue_name) > MOST_LEFT_OVER:
            return
        for _ in range(count):
            # In the past, so that a clock of ours that runs ahead delays no start.
            await self._redis.enqueue_job("wake", _defer_until=datetime.now(UTC) - timedelta(hours=1))


class RareWakeups:
    """At most one wake-up in `pause_seconds`; the first leaves at once, and what comes meanwhile has one at its end."""

    def __init__(self, wakeups: Wakeups, *, pause_seconds: float) -> None:
        self._wakeups = wakeups
        self._pause_seconds = pause_seconds
        self._is_pausing = False
        self._is_owed = False
        self._waking: asyncio.Future[None] | None = None

    async def wake(self) -> None:
        """As Wakeups.wake."""
        if self._is_pausing:
            self._is_owed = True
            return
        self._is_pausing = True
        asyncio.get_running_loop().call_later(self._pause_seconds, self._end_pause)
        await self._wakeups.wake()

    def _end_pause(self) -> None:
        self._is_pausing = False
        if self._is_owed:
            self._is_owed = False
            self._waking = asyncio.ensure_future(self.wake())  # held, as the loop's own hold is weak


async def end_task(task: asyncio.Task[None], *, patience_seconds: float) -> None:
    """The task has ended; raises what it ended with. Asks again when it goes on for so long.

    One cancellation in twenty is lost where a Redis client is in the middle of a command: it may take it for
    trouble of its own and try again, and arq's worker then polls on for ever.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=patience_seconds)
    if not task.cancelled() and (error := task.exception()):
        raise error
