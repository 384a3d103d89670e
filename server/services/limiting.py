"""The rates at the doors: submits and exchanges are refused beyond them, deliveries of forges are handled later."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from msgspec import Struct

from server.domain.errors import TooMany
from server.services.rates import Ask, Bucket, LocalRates, RateBook, Told

Value = TypeVar("Value")

# How long an address that delivered something authentic is never refused for what others send from it: forges have a
# few addresses for all of their users.
GOOD_SECONDS = 30 * 86_400
MOST_REMEMBERED = 10_000


class RateLimits(Struct, frozen=True, kw_only=True):
    """How often, in a minute; as much may come at once."""

    submits: int = 600  # of one token
    exchanges: int = 120  # of one repository
    requests: int = 12_000  # of one address, at each of these doors: many people may share it
    deliveries: int = 600  # of one webhook, installation or project: what is more is handled later
    bad_deliveries: int = 600  # of one address


class Doorkeeper:
    """Counts who comes to the doors. Raises TooMany, with the seconds to wait."""

    def __init__(
        self, book: RateBook, limits: RateLimits | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._book = book
        self._limits = limits or RateLimits()
        self._clock = clock
        self._turns = LocalRates(clock)
        self._sharing: set[asyncio.Task[None]] = set()
        self._stopped: OrderedDict[str, float] = OrderedDict()  # addresses, and until when
        self._good: OrderedDict[str, None] = OrderedDict()  # here too, as Redis may lose what it holds

    async def aclose(self) -> None:
        """What is being counted has been; before Redis is closed."""
        await asyncio.gather(*self._sharing, return_exceptions=True)

    async def submit(self, token: bytes | None, *, address: str) -> None:
        """One more submit with this token, whether it is good or not, from this address."""
        buckets = [Bucket(f"submit:address:{address}", self._limits.requests)]
        if token is not None:
            # The address's bucket pays for no more of a token than the token's own lets through.
            buckets.insert(0, Bucket(f"submit:token:{_digest(token)}", self._limits.submits))
        told = await self._book.ask(Ask(buckets=tuple(buckets)))
        if told.place:
            whose = "this token" if told.place < len(buckets) else "your address"
            raise too_many(f"More submits came with {whose} than are taken in a minute.", told)

    async def exchange(self, repository: str, *, address: str) -> None:
        """One more exchange for this repository, which is verified, from this address."""
        told = await self._book.ask(
            Ask(
                buckets=(
                    Bucket(f"exchange:repository:{_digest(repository.encode())}", self._limits.exchanges),
                    Bucket(f"exchange:address:{address}", self._limits.requests),
                )
            )
        )
        if told.place:
            whose = "this repository" if told.place == 1 else "your address"
            raise too_many(f"More tokens of {whose} were exchanged than are in a minute.", told)

    def check_deliverer(self, address: str) -> None:
        """Not an address that only delivers what is not authentic. Before anything of the delivery is read."""
        until = self._stopped.get(address)
        if until is None:
            return
        if until <= self._clock():
            del self._stopped[address]
            return
        raise _too_many_bad(until - self._clock())

    async def bad_delivery(self, address: str) -> None:
        """One more delivery of this address whose proof did not hold."""
        if address in self._good:
            return
        bucket = Bucket(f"delivery:bad:{address}", self._limits.bad_deliveries)
        told = await self._book.ask(Ask(buckets=(bucket,), free_by=_good(address)))
        if told.place:
            _remember(self._stopped, address, self._clock() + told.seconds)
            raise _too_many_bad(told.seconds)

    def delivery(self, whose: str, *, address: str) -> float:
        """In how many seconds this authentic delivery's turn is; it is never refused, and waits for no count.

        Nor is what comes from its address for the next days, before its proof was looked at.
        """
        self._stopped.pop(address, None)
        _remember(self._good, address, None)
        bucket = Bucket(f"delivery:of:{whose}", self._limits.deliveries)
        told = self._turns.ask(Ask(buckets=(bucket,), is_queued=True))
        sharing = asyncio.create_task(self._share(bucket, address), name="rates of deliveries")
        self._sharing.add(sharing)  # the loop itself holds tasks by weak references only
        sharing.add_done_callback(self._sharing.discard)
        return told.seconds

    async def _share(self, bucket: Bucket, address: str) -> None:
        """The other processes learn of it, and this one of theirs: in time for the next one of a flood."""
        ask = Ask(buckets=(bucket,), is_queued=True, mark=_good(address), mark_seconds=GOOD_SECONDS)
        self._turns.catch_up(bucket, (await self._book.ask(ask)).seconds)


def _remember(kept: OrderedDict[str, Value], name: str, value: Value) -> None:
    kept[name] = value
    kept.move_to_end(name)
    while len(kept) > MOST_REMEMBERED:
        kept.popitem(last=False)


def too_many(sentence: str, told: Told) -> TooMany:
    """The refusal with its wait."""
    seconds = math.ceil(told.seconds)
    return TooMany(f"{sentence} Try again in {seconds} s.", code="rate_limited", retry_after_seconds=seconds)


def _too_many_bad(seconds: float) -> TooMany:
    return too_many(
        "Too many deliveries of your address were not signed with a secret of this service.", Told(seconds, 1)
    )


def _good(address: str) -> str:
    return f"delivery:good:{address}"


def _digest(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()[:32]
