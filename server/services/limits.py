"""How much each deployment may be asked by all workers together: one account in Redis, kept by limits.lua.

The rules are those of evals/limits.py. While Redis is away each worker keeps an account of its own: a limit may then be
met by more calls than it allows, which the provider's refusals correct, but nobody stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog
from msgspec import UNSET, Struct, UnsetType
from redis.asyncio import Redis
from redis.exceptions import RedisError

from evals import limits as rules
from evals.limits import Ask, Grant, LocalLimits, Report, Wait, wait_at_most
from evals.models import Deployment

log = structlog.get_logger()

SCRIPT = Path(__file__).with_name("limits.lua")
PATIENCE_SECONDS = 0.5  # for one answer; a call to a model takes longer than that, so waiting more is no use
AWAY_SECONDS = 1.0  # until Redis is asked again
GATHER_SECONDS = 0.005  # ends of calls are told together, or with the next take
LOOK_SECONDS = 0.1  # how often who waits for room looks again: other workers' calls end unheard
LOST_AFTER_SECONDS = 15.0  # after a call's own time limit, if nobody gave it back
FORGOTTEN_AFTER_SECONDS = 86_400
MOST_REPORTS = 1000
# The braces keep all keys on one node of a cluster.
PREFIX = "{prpm-limits}:"

RULES = {
    "first_room": rules.FIRST_ROOM,
    "room_for_an_answer": rules.ROOM_FOR_AN_ANSWER,
    "safe_share": rules.SAFE_SHARE,
    "least_rate": rules.LEAST_RATE,
    "most_rate": rules.MOST_RATE,
    "growth": rules.GROWTH,
    "hold_seconds": rules.HOLD_SECONDS,
    "longest_hold_seconds": rules.LONGEST_HOLD_SECONDS,
    "long_pause_seconds": rules.LONG_PAUSE_SECONDS,
    "failures_to_rest": rules.FAILURES_TO_REST,
    "first_rest_seconds": rules.FIRST_REST_SECONDS,
    "longest_rest_seconds": rules.LONGEST_REST_SECONDS,
    "probe_look_seconds": rules.PROBE_LOOK_SECONDS,
    "room_look_seconds": LOOK_SECONDS,
    "longest_block_seconds": rules.LONGEST_BLOCK_SECONDS,
    "lost_after_seconds": LOST_AFTER_SECONDS,
    "forgotten_after_seconds": FORGOTTEN_AFTER_SECONDS,
}


class SharedLimits:
    """The account that all workers of one Redis share."""

    def __init__(self, redis: Redis, *, prefix: str = PREFIX, clock: Callable[[], float] | None = None) -> None:
        """Closes `redis` at its end. `clock` gives seconds, for tests: without one the Redis server's own counts."""
        self._redis = redis
        self._prefix = prefix
        self._clock = clock
        self._script = redis.register_script(SCRIPT.read_text(encoding="utf-8"))
        self._local = LocalLimits(clock=clock or time.monotonic)
        self._away_until = 0.0
        self._is_away = False
        self._ended: list[tuple[Grant, Report]] = []
        self._freed = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._flushing: asyncio.Task[None] | None = None

    async def take(self, ask: Ask) -> Grant | Wait:
        """As Limits.take. While Redis is away, by this process's own account."""
        if time.monotonic() < self._away_until:
            return await self._local.take(ask)
        # A take that was sent may be granted although who asked was cancelled meanwhile.
        asked = self._keep(asyncio.create_task(self._take(ask)))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back_unused)
            raise

    def give_back(self, grant: Grant, report: Report) -> None:
        """As Limits.give_back. It is told with the next take, or in a moment."""
        if not grant.call_id.startswith(self._prefix):
            self._local.give_back(grant, report)
            self._freed.set()
            return
        self._ended.append((grant, report))
        if self._flushing is None or self._flushing.done():
            self._flushing = self._keep(asyncio.create_task(self._flush()))

    async def room(self, seconds: float) -> None:
        """As Limits.room."""
        self._freed.clear()
        await wait_at_most(self._freed, seconds)

    async def aclose(self) -> None:
        """What is still to be told is told, if Redis is there. Safe to call twice."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose(close_connection_pool=True)

    async def _take(self, ask: Ask) -> Grant | Wait:
        call_id = self._prefix + secrets.token_hex(8)
        answer = await self._tell(ask, call_id)
        if answer is None:
            return await self._local.take(ask)
        if isinstance(answer.granted, int):
            return Grant(
                deployment=ask.deployments[answer.granted - 1],
                call_id=call_id,
                started=answer.started,
                tokens=ask.tokens,
                is_probe=answer.is_probe,
            )
        return Wait(answer.seconds, answer.why)

    async def _flush(self) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        while self._ended and time.monotonic() >= self._away_until:
            await self._tell(None, "")

    async def _tell(self, ask: Ask | None, call_id: str) -> _Answer | None:
        """Tell what ended and ask, in one step; None if Redis does not answer."""
        ended, self._ended = self._ended[:MOST_REPORTS], self._ended[MOST_REPORTS:]
        message = _Message.of(ask, call_id, ended, now=self._clock() if self._clock else 0.0)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                content = await self._script(keys=self._keys(message), args=[_encode(message)])
            answer = _decode(content)
        except (RedisError, OSError, TimeoutError, msgspec.MsgspecError) as error:
            self._ended = [*ended, *self._ended][-MOST_REPORTS:]
            self._note_away(error)
            return None
        if self._is_away:
            self._is_away = False
            log.info("limits are shared again")
        if ended:
            self._freed.set()
        return answer

    def _keys(self, message: _Message) -> list[str]:
        return [f"{self._prefix}{deployment.id}:{kind}" for deployment in message.deployments for kind in _KINDS]

    def _note_away(self, error: Exception) -> None:
        self._away_until = time.monotonic() + AWAY_SECONDS
        if not self._is_away:
            self._is_away = True
            log.warning("limits are not shared with other workers", reason=type(error).__name__)

    def _give_back_unused(self, asked: asyncio.Task[Grant | Wait]) -> None:
        if not asked.cancelled() and asked.exception() is None and isinstance(taken := asked.result(), Grant):
            self.give_back(taken, Report("neither"))

    def _keep(self, task: asyncio.Task[Any]) -> asyncio.Task[Any]:
        """The loop itself holds tasks by weak references only."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


_KINDS = ("state", "flights", "starts")


class _Deployment(Struct, frozen=True):
    id: str
    max_in_flight: int
    rpm: int  # 0: no limit is known
    tpm: int


class _Ended(Struct, frozen=True, kw_only=True):
    place: int
    call_id: str
    started: float
    tokens: int
    used: int  # -1: unknown
    is_probe: bool
    ending: str
    pause_seconds: float


class _Asked(Struct, frozen=True, kw_only=True):
    places: list[int]
    call_id: str
    tokens: int
    seconds: float


class _Message(Struct, frozen=True, kw_only=True):
    """What the script is told. Deployments are counted from 1, those that are asked for first."""

    now: float
    rules: dict[str, float]
    deployments: list[_Deployment]
    reports: list[_Ended]
    ask: _Asked | UnsetType

    @staticmethod
    def of(ask: Ask | None, call_id: str, ended: Sequence[tuple[Grant, Report]], *, now: float) -> _Message:
        asked = ask.deployments if ask else ()
        known = {d.id: d for d in (*asked, *(grant.deployment for grant, _ in ended))}
        places = {name: place for place, name in enumerate(known, 1)}
        return _Message(
            now=now,
            rules=RULES,
            deployments=[_deployment(deployment) for deployment in known.values()],
            reports=[_report(places[grant.deployment.id], grant, report) for grant, report in ended],
            ask=UNSET
            if ask is None
            else _Asked(places=[places[d.id] for d in asked], call_id=call_id, tokens=ask.tokens, seconds=ask.seconds),
        )


class _Answer(Struct, frozen=True):
    granted: int | None = None
    started: float = 0.0
    is_probe: bool = False
    seconds: float = 0.0
    why: rules.Why = "room"


def _deployment(deployment: Deployment) -> _Deployment:
    return _Deployment(deployment.id, deployment.max_in_flight, deployment.rpm or 0, deployment.tpm or 0)


def _report(place: int, grant: Grant, report: Report) -> _Ended:
    return _Ended(
        place=place,
        call_id=grant.call_id,
        started=grant.started,
        tokens=grant.tokens,
        used=-1 if report.tokens is None else report.tokens,
        is_probe=grant.is_probe,
        ending=report.ending,
        pause_seconds=report.pause_seconds,
    )


_encode = msgspec.msgpack.Encoder().encode
# The script's language has one kind of number: a moment without a fraction comes as an integer, and an empty answer
# as an empty list.
_DECODER = msgspec.msgpack.Decoder(_Answer | list, strict=False)


def _decode(content: bytes) -> _Answer:
    answer = _DECODER.decode(content)
    return answer if isinstance(answer, _Answer) else _Answer()
