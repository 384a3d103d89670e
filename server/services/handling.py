"""Kept deliveries are read and acted on, by whichever worker is free; what fails for a while is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Collection

import asyncpg
import structlog

from server.domain.deliveries import ClaimedDelivery, Ended, Room
from server.domain.events import Meaning, Ping, Uninteresting
from server.services.delivery_ends import DeliveryEnds
from server.store import deliveries
from server.store.trouble import DATABASE_TROUBLE
from server.webhooks import SOURCES, InvalidDelivery

log = structlog.get_logger()

LOOK_SECONDS = 1.0
LEASE_SECONDS = 15.0  # renewed three times meanwhile; what a killed worker held is another's after that
ATTEMPT_SECONDS = 90.0
AT_ONCE = 20  # of each source; most of them wait for their forge
TELL_SECONDS = 10.0  # asks the database alone
# More than a day in all: a forge that is away for a night has lost nothing.
PAUSES_SECONDS = (5.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0)


class TryLater(Exception):
    """Something outside is away; `str()` is a sentence for the operator. `seconds`: not before then."""

    def __init__(self, message: str, *, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


Act = Callable[[Meaning, ClaimedDelivery], Awaitable[Ended]]
GiveUp = Callable[[Meaning, ClaimedDelivery, str], Awaitable[None]]


class InboxLoop:
    """Handles what is due, until cancelled. `act` does what an event asks for; it raises TryLater. `give_up` is told of
    what failed to the end, and why.

    Each delivery has a slot of its own, so that one whose forge is slow holds up no other. Each source has its own
    slots, and of those one holder never has more than it leaves free: a forge that hangs, for one of its users or for
    all of them, takes no slot from the others.
    """

    def __init__(
        self,
        db: asyncpg.Pool,
        act: Act,
        *,
        give_up: GiveUp | None = None,
        look_seconds: float = LOOK_SECONDS,
        attempt_seconds: float = ATTEMPT_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._db = db
        self._act = act
        self._give_up = give_up
        self._look_seconds = look_seconds
        self._attempt_seconds = attempt_seconds
        self._lease_seconds = lease_seconds
        self._ends = DeliveryEnds(db)
        self._nudged = asyncio.Event()
        self._held: dict[asyncio.Task[None], ClaimedDelivery] = {}
        self._is_full = False  # something may be due for which there was no slot

    def nudge(self) -> None:
        """Look now. Safe to call at any time."""
        self._nudged.set()

    async def run(self) -> None:
        """Look at once, after each nudge, when a slot is free again, and every second. What is held is given back."""
        renewing = asyncio.create_task(self._renew(), name="leases of deliveries")
        try:
            while True:
                self._nudged.clear()
                try:
                    # What is in front may be one holder's alone: those behind it are seen by the next look.
                    while await self._begin_due():
                        pass
                except DATABASE_TROUBLE as error:
                    log.warning("deliveries not read", reason=type(error).__name__)
                try:
                    async with asyncio.timeout(self._look_seconds):
                        await self._nudged.wait()
                except TimeoutError:
                    pass
        finally:
            held = list(self._held.values())
            for task in (renewing, *self._held):
                task.cancel()
            await asyncio.gather(renewing, *self._held, return_exceptions=True)
            with contextlib.suppress(*DATABASE_TROUBLE):
                await deliveries.release(self._db, held)

    async def handle_due(self) -> int:
        """How many were due, and are handled now."""
        begun = await self._begin_due()
        await asyncio.gather(*begun)
        return len(begun)

    async def _begin_due(self) -> list[asyncio.Task[None]]:
        """What is due has begun, as far as slots are free."""
        room = room_of(self._held.values())
        self._is_full = bool(room.full_holders or room.full_sources)
        claimed = await deliveries.claim_deliveries(
            self._db, most=AT_ONCE, lease_seconds=self._lease_seconds, room=room
        )
        begun = []
        for one in claimed:
            task = asyncio.create_task(self._handle(one), name="delivery")
            self._held[task] = one
            task.add_done_callback(self._ended_one)
            begun.append(task)
        return begun

    def _ended_one(self, task: asyncio.Task[None]) -> None:
        del self._held[task]
        if self._is_full:
            self._nudged.set()
        # What could not even be noted is the database's trouble; its lease gives it to the next who looks.
        if not task.cancelled() and (trouble := task.exception()):
            log.warning("delivery not ended", reason=type(trouble).__name__)

    async def _renew(self) -> None:
        """What is held stays ours; what another has by now is let go."""
        while True:
            await asyncio.sleep(self._lease_seconds / 3)
            held = dict(self._held)
            try:
                still = await deliveries.extend_leases(self._db, held.values(), lease_seconds=self._lease_seconds)
            except DATABASE_TROUBLE as error:
                log.warning("leases of deliveries not renewed", reason=type(error).__name__)
                continue
            for task, one in held.items():
                if one.id not in still:
                    task.cancel()

    async def _handle(self, delivery: ClaimedDelivery) -> None:
        bound = {"delivery": delivery.id, "source": delivery.source}
        try:
            async with asyncio.timeout(self._attempt_seconds):
                ended = await self._ended(delivery)
        except TryLater as later:
            await self._put_off(delivery, str(later), seconds=later.seconds)
            return
        except OSError as error:  # time-outs are such: something outside is away, a forge or the database
            is_slow = isinstance(error, TimeoutError)
            await self._put_off(delivery, "It took too long." if is_slow else "Something outside did not answer.")
            return
        except Exception as error:  # noqa: BLE001 - a defect of ours: kept visible, and never the end of the loop
            log.error("delivery broke", error=type(error).__name__, **bound)
            await self._put_off(delivery, "Handling it broke; the log says how.")
            return
        if await self._ends.end(delivery, ended):
            log.info("delivery ended", state=ended.state, **bound)

    async def _ended(self, delivery: ClaimedDelivery) -> Ended:
        if delivery.source not in SOURCES:
            return Ended("invalid", "This version of the service knows no such source.")
        try:
            meaning = SOURCES[delivery.source].read(delivery.event, delivery.body)
        except InvalidDelivery as invalid:
            return Ended("invalid", str(invalid))
        match meaning:
            case Uninteresting(reason=reason):
                return Ended("ignored", reason)
            case Ping():
                return Ended("handled", "The forge tried the address.")
        return await self._act(meaning, delivery)

    async def _put_off(self, delivery: ClaimedDelivery, reason: str, *, seconds: float | None = None) -> None:
        if delivery.attempts > len(PAUSES_SECONDS):
            await self._tell_of_failure(delivery, reason)
            await self._ends.end(delivery, Ended("failed", reason))
            log.error("delivery failed", delivery=delivery.id, attempts=delivery.attempts)
            return
        pause = PAUSES_SECONDS[delivery.attempts - 1] * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, no secret
        await deliveries.put_off(self._db, delivery, seconds=max(pause, seconds or 0.0), reason=reason)

    async def _tell_of_failure(self, delivery: ClaimedDelivery, reason: str) -> None:
        """Before it ends, so that a worker that dies here leaves it to another."""
        if self._give_up is None:
            return
        try:
            async with asyncio.timeout(TELL_SECONDS):
                await self._give_up(SOURCES[delivery.source].read(delivery.event, delivery.body), delivery, reason)
        except Exception as error:  # noqa: BLE001 - maybe the very defect that it failed by: it ends all the same
            log.error("failed delivery not told", delivery=delivery.id, error=type(error).__name__)


def room_of(held: Collection[ClaimedDelivery], *, slots: int = AT_ONCE) -> Room:
    """What there is room for beside these, with so many slots for each source.

    A holder gets another slot while it has fewer than its source has free: alone it has half of them, and who comes
    next half of the rest.
    """
    of_source = Counter(one.source for one in held)
    of_holder = Counter((one.source, one.holder) for one in held if one.holder)
    free = {source: slots - count for source, count in of_source.items()}
    return Room(
        free=free,
        has={holder: count for (_, holder), count in of_holder.items()},
        full_holders=tuple(holder for (source, holder), count in of_holder.items() if count >= free[source]),
        full_sources=tuple(source for source, left in free.items() if left <= 0),
    )
