"""What a forge sent while nobody answered is asked for again: it sends each delivery once, and forgets it after days.

The forge's list is walked from its newest entry back to where the last walk began, some pages a round; how far it went
is kept, so that any process goes on. What failed there and is not here is asked for, and again later if it still does
not come. Nothing is believed of what the list says a delivery is about: it comes through the door like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg
import structlog
from msgspec import Struct

from evals.models import Secret
from server.domain.missed import Look, Missed, Sent
from server.forges import FORGES, CannotRead, Sending, SentPage
from server.services.forge_access import ForgeAccess
from server.store import missed
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

LOOK_SECONDS = 20.0  # how often a process asks whether a look is due
EVERY_SECONDS = 300.0
SOON_SECONDS = 2.0  # when there is more than a round did
ROUND_SECONDS = 90.0
LEASE_SECONDS = 120.0  # longer than a round may take
PAGES_A_ROUND = 20
ASKED_A_ROUND = 200
AT_ONCE = 4
# After each time that it was asked for. The forge sends again within seconds; what did not come then is refused here,
# or we are away again.
PAUSES_SECONDS = (600.0, 3600.0, 21_600.0, 43_200.0, 86_400.0)
# What is listed a little late, by a clock that is not ours, is seen by the next walk.
OVERLAP_SECONDS = 120.0


class Pace(Struct, frozen=True, kw_only=True):
    """How much at a time, and how often; seconds."""

    look_seconds: float = LOOK_SECONDS
    every_seconds: float = EVERY_SECONDS
    pages: int = PAGES_A_ROUND
    asked: int = ASKED_A_ROUND
    pauses: Sequence[float] = PAUSES_SECONDS


class Round(Struct, frozen=True, kw_only=True):
    """What a round did. `has_more`: there is more to do at once."""

    pages: int = 0
    failed: int = 0
    asked: int = 0
    has_more: bool = False


class MissedLoop:
    """Looks for missed deliveries of every forge that has an App here, until cancelled; one process at a time."""

    def __init__(self, db: asyncpg.Pool, access: ForgeAccess, *, pace: Pace | None = None) -> None:
        self._db = db
        self._access = access
        self._pace = pace or Pace()

    async def run(self) -> None:
        """The first look is at once: that is when something was missed."""
        while True:
            try:
                for name in FORGES:
                    await self.look(name)
            except DATABASE_TROUBLE as error:
                log.warning("missed deliveries not looked for", reason=type(error).__name__)
            await asyncio.sleep(self._pace.look_seconds)

    async def look(self, forge: str) -> None:
        """All rounds that are due now and that no other process does."""
        while (done := await self.one_round(forge)) is not None and done.has_more:
            await asyncio.sleep(SOON_SECONDS)

    async def one_round(self, forge: str) -> Round | None:
        """What was done; None where nothing was due, or the forge could not be asked."""
        app = FORGES[forge].app
        if app is None or app.sending is None or not await self._access.has_app(forge):
            return None
        look = await missed.claim_look(self._db, forge, lease_seconds=LEASE_SECONDS)
        if look is None:
            return None
        next_in = 0.0  # for another process, where this one is ended
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                done = await self._round(look, app.sending)
        except (CannotRead, TimeoutError) as trouble:
            log.warning("missed deliveries not looked for", forge=forge, reason=str(trouble) or "It took too long.")
            next_in = max(getattr(trouble, "seconds", None) or 0.0, 60.0)
            return None
        else:
            next_in = 0.0 if done.has_more else self._pace.every_seconds
            return done
        finally:
            await missed.end_look(self._db, look, seconds=next_in)

    async def _round(self, look: Look, sending: Sending) -> Round:
        _, proof = await self._access.proof(look.source)
        pages, failed, is_over = await self._walk(look, sending, proof)
        if gone := await missed.forget_settled(self._db, look.source):
            log.error("missed deliveries are gone", forge=look.source, count=gone)
        due = await missed.due_missed(self._db, look.source, most_asked=len(self._pace.pauses), most=self._pace.asked)
        await self._ask_for(due, sending, proof)
        if failed or due:
            log.info("missed deliveries", forge=look.source, pages=pages, failed=failed, asked=len(due))
        has_more = not is_over or len(due) == self._pace.asked
        return Round(pages=pages, failed=failed, asked=len(due), has_more=has_more)

    async def _walk(self, look: Look, sending: Sending, proof: Secret) -> tuple[int, int, bool]:
        """How many pages were read, how many tries on them had failed, and whether the walk is over."""
        cursor, walk_until, failures = look.cursor, look.walk_until, 0
        for number in range(1, self._pace.pages + 1):
            page = await self._page(look, sending, proof, cursor)
            failed = [one for one in page.sent if not one.has_arrived and one.sent_at > look.looked_until]
            await missed.note_missed(self._db, look.source, failed)
            failures += len(failed)
            if walk_until is None:
                walk_until = _newest(page.sent)
            cursor = page.cursor
            if not cursor or any(one.sent_at <= look.looked_until for one in page.sent):
                await missed.end_walk(self._db, look, until=walk_until)
                return number, failures, True
            if not await missed.walk_on(self._db, look, walk_until=walk_until, cursor=cursor):
                return number, failures, True  # another process goes on
        return self._pace.pages, failures, False

    async def _page(self, look: Look, sending: Sending, proof: Secret, cursor: str) -> SentPage:
        try:
            return await self._access.ask(sending.page(self._access.api_url(look.source), proof, cursor))
        except CannotRead as refused:
            if cursor and not refused.retryable:  # the place may be none any more: the next round begins anew
                await missed.end_walk(self._db, look, until=None)
            raise

    async def _ask_for(self, due: Sequence[Missed], sending: Sending, proof: Secret) -> None:
        """Each is asked for once, some at a time. Raises CannotRead where the forge wants no more of it now."""
        for start in range(0, len(due), AT_ONCE):
            some = due[start : start + AT_ONCE]
            asked = (self._ask_for_one(one, sending, proof) for one in some)
            for trouble in filter(None, await asyncio.gather(*asked, return_exceptions=True)):
                raise trouble

    async def _ask_for_one(self, one: Missed, sending: Sending, proof: Secret) -> None:
        try:
            is_there = await self._access.ask(sending.again(self._access.api_url(one.source), proof, one.attempt_id))
        except CannotRead as refused:
            if refused.retryable:
                raise
            is_there = False
            log.warning("missed delivery refused", forge=one.source, attempt=one.attempt_id, reason=str(refused))
        pauses = self._pace.pauses
        # What cannot be had now is asked for once more a while later, and then left.
        await missed.was_asked(self._db, one, seconds=pauses[one.asked if is_there else -1])


def _newest(sent: Sequence[Sent]) -> datetime | None:
    """Until when all is seen once a walk from this page on is over; None for an empty list."""
    newest = max((one.sent_at for one in sent), default=None)
    return newest - timedelta(seconds=OVERLAP_SECONDS) if newest is not None else None
