"""How often somebody may ask: buckets that fill again evenly, counted in Redis for all processes by rates.lua.

A bucket of 600 a minute lets 600 through at once, and then ten a second. Asks that come while Redis is being asked
share the next call, so that a flood costs few of them. While Redis is away each process counts alone: nobody is refused
for that, and a limit holds for each process by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec import Struct
from redis.exceptions import RedisError

log = structlog.get_logger()

SCRIPT = Path(__file__).with_name("rates.lua").read_text(encoding="utf-8")
WINDOW_SECONDS = 60.0
PATIENCE_SECONDS = 0.25  # how long a request may wait for its count, when Redis hangs
AWAY_SECONDS = 1.0  # until Redis is asked again
MOST_AT_ONCE = 200  # asks in one call
MOST_REMEMBERED = 50_000  # buckets of this process alone
TINY = 1e-6  # seconds
# The braces keep all keys on one node of a cluster.
PREFIX = "{prpm-rates}:"


class Bucket(NamedTuple):
    """Whose it is, and how much goes through it in a minute."""

    name: str
    per_minute: int


class Ask(Struct, frozen=True, kw_only=True):
    """From which buckets one is taken: from all or, if one of them is empty, from none.

    `is_queued`: from all in any case; what is told is when its turn is. `free_by`: who has this mark takes nothing.
    `mark`: is set for `mark_seconds`.
    """

    buckets: tuple[Bucket, ...]
    is_queued: bool = False
    free_by: str = ""
    mark: str = ""
    mark_seconds: int = 0


class Told(NamedTuple):
    """Seconds until there is room, or until a queued one's turn; nought: now. `place`: the empty bucket's, from 1."""

    seconds: float
    place: int


class LocalRates:
    """The rules of rates.lua for one process; a test holds both to the same. Forgets the oldest of too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: OrderedDict[str, float] = OrderedDict()
        self._marks: OrderedDict[str, float] = OrderedDict()

    def ask(self, ask: Ask) -> Told:
        """As the script answers."""
        now = self._clock()
        if ask.mark:
            self._keep(self._marks, ask.mark, now + ask.mark_seconds)
        if self._marks.get(ask.free_by, 0.0) > now:
            return Told(0.0, 0)
        longest, place = 0.0, 0
        for number, (name, per_minute) in enumerate(ask.buckets, 1):
            seconds = max(self._due.get(name, now), now) + WINDOW_SECONDS / per_minute - now - WINDOW_SECONDS
            if seconds > TINY and seconds > longest:
                longest, place = seconds, number
        if not place or ask.is_queued:
            for name, per_minute in ask.buckets:
                self._keep(self._due, name, max(self._due.get(name, now), now) + WINDOW_SECONDS / per_minute)
        return Told(longest, place)

    def catch_up(self, bucket: Bucket, seconds: float) -> None:
        """The bucket is as empty as somebody else counted, whose last one has to wait for so long."""
        if seconds > 0:
            due = self._clock() + WINDOW_SECONDS + seconds
            self._keep(self._due, bucket.name, max(self._due.get(bucket.name, due), due))

    def _keep(self, kept: OrderedDict[str, float], name: str, moment: float) -> None:
        kept[name] = moment
        kept.move_to_end(name)
        while len(kept) > MOST_REMEMBERED:
            kept.popitem(last=False)


class RateBook:
    """What all processes of one Redis count together."""

    def __init__(self, redis: Any = None, *, prefix: str = PREFIX, clock: Callable[[], float] | None = None) -> None:
        """`redis` is the caller's to close; None: this process counts alone. `clock` gives seconds, for tests."""
        self._script: Any = redis.register_script(SCRIPT) if redis is not None else None
        self._prefix = prefix
        self._clock = clock
        self._local = LocalRates(clock or time.monotonic)
        self._waiting: list[tuple[Ask, asyncio.Future[Told]]] = []
        self._asking: asyncio.Task[None] | None = None
        self._away_until = 0.0
        self._is_away = False

    async def ask(self, ask: Ask) -> Told:
        """Whether there is room, and what was taken is gone. Never raises, and never waits long for Redis."""
        if self._script is None or time.monotonic() < self._away_until:
            return self._local.ask(ask)
        told: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, told))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all(), name="rates")
        return await told

    async def _ask_all(self) -> None:
        while self._waiting:
            now, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
            for (_, future), told in zip(now, await self._tell([ask for ask, _ in now]), strict=True):
                if not future.done():  # who asked may be gone
                    future.set_result(told)

    async def _tell(self, asks: Sequence[Ask]) -> list[Told]:
        keys, message = _message(asks, now=self._clock() if self._clock else 0.0)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                content = await self._script(keys=[self._prefix + key for key in keys], args=[message])
            told = _decode(content)
        except (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self._away_until = time.monotonic() + AWAY_SECONDS
            if not self._is_away:
                self._is_away = True
                log.warning("rates are not shared with other processes", reason=type(error).__name__)
            return [self._local.ask(ask) for ask in asks]
        if self._is_away:
            self._is_away = False
            log.info("rates are shared again")
        return told


def _message(asks: Sequence[Ask], *, now: float) -> tuple[list[str], bytes]:
    """The script's keys and message."""
    places: dict[str, int] = {}

    def place(name: str) -> int:
        return places.setdefault(name, len(places) + 1) if name else 0

    listed = [
        {
            "takes": [(place(name), per_minute) for name, per_minute in ask.buckets],
            "is_queued": ask.is_queued,
            "free_by": place(ask.free_by),
            "marks": place(ask.mark),
            "mark_seconds": ask.mark_seconds,
        }
        for ask in asks
    ]
    return list(places), msgspec.msgpack.encode({"now": now, "asks": listed})


# The script's language has one kind of number: a moment without a fraction comes as an integer.
_decode = msgspec.msgpack.Decoder(list[Told], strict=False).decode
