"""How much each deployment may be asked now: calls in flight, a rate learned from refusals, rest after failures.

A call is let through by `Limits.take` and reported by `give_back`. `LocalLimits` keeps the account of one process; a
service whose workers share their deployments brings its own `Limits` that follows the same rules.

The rules, for each deployment:
- **Room** for calls in flight begins at `FIRST_ROOM` and grows with each answer up to the deployment's own limit, so
  that a provider's unknown limit is met by few calls and not by all.
- **A refusal for too many requests** (HTTP 429) stops all calls for as long as the provider asks. From then on calls
  leave evenly, a little slower than the provider let through in the moment before. The rate is held for `HOLD_SECONDS`
  (twice as long each time the same rate is found again) and then tried upwards.
- **`rpm` and `tpm`** are buckets that hold a tenth of a minute's amount and are filled at nine tenths of the rate: no
  minute, whenever it begins, has more than the limit in it.
- **Failures in a row** let it rest; after the rest a single call finds out whether it is back.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from evals.models import Deployment

FIRST_ROOM = 16
ROOM_FOR_AN_ANSWER = 2  # by how much each answer widens the room, before the first refusal
SAFE_SHARE = 0.95  # of the rate that a provider was seen to take
LEAST_RATE = 0.2  # calls a second
MOST_RATE = 10_000.0  # which is none
GROWTH = 1.15  # of a learned rate, each second after it was held
HOLD_SECONDS = 10.0
LONGEST_HOLD_SECONDS = 160.0
LONG_PAUSE_SECONDS = 5.0  # who asks for more than this counts by the minute, not by the second
# One call in five failing by chance gives so many failures in a row once in some 400,000 calls.
FAILURES_TO_REST = 8
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 60.0
PROBE_LOOK_SECONDS = 0.5  # how often those who wait for the call that finds out look again
ROOM_LOOK_SECONDS = 1.0  # the same for those who wait for room: a call that ends wakes them earlier
LONGEST_BLOCK_SECONDS = 300.0  # whatever a provider asks for

Ending = Literal["answered", "refused", "failed", "neither"]
Why = Literal["room", "rate", "rest"]


class Ask(Struct, frozen=True, kw_only=True):
    """A call that wants to be made. `deployments` are of equal rank: any will do."""

    deployments: tuple[Deployment, ...]
    tokens: int = 0  # that the call may take, both ways; counts where a deployment has `tpm`
    seconds: float = 120.0  # that the call may last


class Grant(Struct, frozen=True, kw_only=True):
    """The call may be made now, at this deployment; it must be given back."""

    deployment: Deployment
    call_id: str
    started: float  # seconds on the limits' own clock
    tokens: int = 0
    is_probe: bool = False  # the one call that finds out whether a resting deployment is back


class Wait(Struct, frozen=True):
    """Not now. `why`: no room, a rate, or a rest. Ask again after `seconds`, or when there is room."""

    seconds: float
    why: Why


class Report(Struct, frozen=True):
    """How a call ended. `pause_seconds`: what the provider asked for, or what its caller will wait."""

    ending: Ending
    pause_seconds: float = 0.0
    tokens: int | None = None  # that it took; None: unknown


class Limits(Protocol):
    """The account of all calls to the deployments. Safe for concurrent calls in one event loop."""

    async def take(self, ask: Ask) -> Grant | Wait:
        """Leave for one call at the deployment with the largest share free, or how long to wait."""

    def give_back(self, grant: Grant, report: Report) -> None:
        """The call has ended. Returns at once and never raises; safe in a task that is being cancelled."""

    async def room(self, seconds: float) -> None:
        """Returns when a call of this process was given back, after `seconds` at the latest."""

    async def aclose(self) -> None:
        """What is still to be told is told. Safe to call twice."""


class LocalLimits:
    """The account of one process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._states: dict[str, _State] = {}
        self._numbers = itertools.count()
        self._freed = asyncio.Event()

    async def take(self, ask: Ask) -> Grant | Wait:
        """As Limits.take. Never waits."""
        now = self._clock()
        waits: list[Wait] = []
        best: tuple[float, Deployment] | None = None
        for deployment in ask.deployments:
            free = self._state(deployment).free(now, deployment, ask.tokens)
            if isinstance(free, Wait):
                waits.append(free)
            elif best is None or free > best[0]:
                best = (free, deployment)
        if best is None:
            return shortest(waits)
        call_id = str(next(self._numbers))
        is_probe = self._state(best[1]).begin(now, ask, call_id)
        return Grant(deployment=best[1], call_id=call_id, started=now, tokens=ask.tokens, is_probe=is_probe)

    def give_back(self, grant: Grant, report: Report) -> None:
        """As Limits.give_back."""
        self._state(grant.deployment).end(self._clock(), grant, report)
        self._freed.set()

    async def room(self, seconds: float) -> None:
        """As Limits.room."""
        self._freed.clear()
        await wait_at_most(self._freed, seconds)

    async def aclose(self) -> None:
        """Nothing is open."""

    def _state(self, deployment: Deployment) -> _State:
        if deployment.id not in self._states:
            self._states[deployment.id] = _State()
        return self._states[deployment.id]


def shortest(waits: Sequence[Wait]) -> Wait:
    """The wait that ends first."""
    return min(waits, key=lambda wait: wait.seconds)


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """Returns when the event is set or the time is over."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Bucket:
    """What may be used up at once, and comes back evenly. It may be overdrawn by what is larger than all of it."""

    def __init__(self) -> None:
        self.level = math.inf  # full
        self.at = 0.0

    def wait_seconds(self, now: float, need: float, *, size: float, rate: float) -> float:
        """Until `need` is there, or all that there can be."""
        self.level = min(size, self.level + max(0.0, now - self.at) * rate)
        self.at = max(now, self.at)
        missing = min(need, size) - self.level
        # Not a hair less than the time, or floating point asks for another wait of nothing.
        return missing / rate + 1e-6 if missing > 1e-9 else 0.0


class _State:
    """One deployment's account. All times are of one clock."""

    def __init__(self) -> None:
        self.flights: set[str] = set()
        self.room = float(FIRST_ROOM)
        self.starts: dict[str, float] = {}  # of the last minute's calls that were not refused, in order
        self.blocked_until = 0.0
        self.rate: float | None = None  # calls a second; None: no limit was met
        self.paced = Bucket()
        self.limited_at = -math.inf
        self.held_until = 0.0
        self.hold_seconds = HOLD_SECONDS
        self.requests = Bucket()
        self.tokens = Bucket()
        self.failures = 0
        self.rests = 0
        self.resting_until = 0.0
        self.probed_until = 0.0

    def free(self, now: float, deployment: Deployment, tokens: int) -> float | Wait:
        """The share of it that is free, 0..1, or why there is none."""
        if self.failures >= FAILURES_TO_REST:
            if now < self.resting_until:
                return Wait(self.resting_until - now, "rest")
            if now < self.probed_until:
                return Wait(min(PROBE_LOOK_SECONDS, self.probed_until - now), "rest")
        if now < self.blocked_until:
            return Wait(self.blocked_until - now, "rate")
        room = min(int(self.room), deployment.max_in_flight)
        if len(self.flights) >= room:
            return Wait(ROOM_LOOK_SECONDS, "room")
        seconds = self._pace_seconds(now, deployment, tokens)
        if seconds > 0:
            return Wait(seconds, "rate")
        shares = [1 - len(self.flights) / room]
        if deployment.rpm is not None:
            shares.append(self.requests.level / bucket_size(deployment.rpm))
        if deployment.tpm is not None:
            shares.append(self.tokens.level / bucket_size(deployment.tpm))
        return min(shares)

    def begin(self, now: float, ask: Ask, call_id: str) -> bool:
        """A call has begun; whether it is the one that finds out if the deployment is back."""
        self.flights.add(call_id)
        self.starts[call_id] = now
        for oldest in list(itertools.takewhile(lambda known: self.starts[known] < now - 60, self.starts)):
            del self.starts[oldest]
        self.paced.level -= 1
        self.requests.level -= 1
        self.tokens.level -= ask.tokens
        if self.failures < FAILURES_TO_REST:
            return False
        self.probed_until = now + ask.seconds
        return True

    def end(self, now: float, grant: Grant, report: Report) -> None:
        """A call has ended."""
        self.flights.discard(grant.call_id)
        if report.tokens is not None:
            self.tokens.level += grant.tokens - report.tokens
        if grant.is_probe:
            self.probed_until = 0.0
        if report.ending == "answered":
            self._answered(now, grant)
        elif report.ending == "refused":
            self._refused(now, grant, report)
        elif report.ending == "failed":
            self._failed(now, grant)
        if report.pause_seconds > 0 and report.ending != "refused":
            self._block(now, report)

    def _answered(self, now: float, grant: Grant) -> None:
        self.failures = self.rests = 0
        self.resting_until = 0.0
        if self.rate is None:
            self.room = min(self.room + ROOM_FOR_AN_ANSWER, float(grant.deployment.max_in_flight))
        elif now > self.held_until:
            self.room = min(self.room + 1 / self.room, float(grant.deployment.max_in_flight))

    def _refused(self, now: float, grant: Grant, report: Report) -> None:
        self.starts.pop(grant.call_id, None)
        window = 60.0 if report.pause_seconds > LONG_PAUSE_SECONDS else 1.0
        since = grant.started - window
        taken = sum(1 for _ in itertools.takewhile(lambda at: at > since, reversed(self.starts.values())))
        learned = max(LEAST_RATE, SAFE_SHARE * taken / window)
        if grant.started < self.limited_at and self.rate is not None:
            # It left before the limit was known: it says more about the same moment.
            self.rate = min(self.rate, learned)
        else:
            is_same = self.rate is not None and learned > 0.7 * self.rate
            self.hold_seconds = min(self.hold_seconds * 2, LONGEST_HOLD_SECONDS) if is_same else HOLD_SECONDS
            self.rate = learned if self.rate is None else min(learned, 0.95 * self.rate)
            self.limited_at = now
        self.held_until = now + self.hold_seconds
        self._block(now, report)
        self.paced.level, self.paced.at = 1.0, self.blocked_until

    def _failed(self, now: float, grant: Grant) -> None:
        self.failures += 1
        if self.failures == FAILURES_TO_REST or grant.is_probe:
            self.resting_until = now + min(FIRST_REST_SECONDS * 2.0**self.rests, LONGEST_REST_SECONDS)
            self.rests = min(self.rests + 1, 10)

    def _block(self, now: float, report: Report) -> None:
        self.blocked_until = max(self.blocked_until, now + min(report.pause_seconds, LONGEST_BLOCK_SECONDS))

    def _pace_seconds(self, now: float, deployment: Deployment, tokens: int) -> float:
        """Until the rates allow another call."""
        waits = [0.0]
        if self.rate is not None:
            if now > self.held_until:
                self.rate = min(self.rate * GROWTH ** min(now - self.held_until, 60.0), MOST_RATE)
                self.held_until = now
            waits.append(self.paced.wait_seconds(now, 1, size=max(1.0, self.rate / 10), rate=self.rate))
        if deployment.rpm is not None:
            size, rate = bucket_size(deployment.rpm), bucket_rate(deployment.rpm)
            waits.append(self.requests.wait_seconds(now, 1, size=size, rate=rate))
        if deployment.tpm is not None:
            size, rate = bucket_size(deployment.tpm), bucket_rate(deployment.tpm)
            waits.append(self.tokens.wait_seconds(now, tokens, size=size, rate=rate))
        return max(waits)


def bucket_size(a_minute: int) -> float:
    """What may be used at once of an amount that a minute may have."""
    return max(1.0, a_minute / 10)


def bucket_rate(a_minute: int) -> float:
    """What comes back in a second: with the whole bucket never more than the amount in any minute."""
    return max(a_minute - bucket_size(a_minute), a_minute / 2) / 60
