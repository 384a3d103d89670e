"""What was proposed while nobody answered is found in repositories without an App.

Their forges have no list of what was sent that a right to read reaches. So after an outage each such repository is
looked at once: open changes that were touched since, with a head that nobody told of, become deliveries of the same
webhook, as the forge would have sent them. What they mean is decided where all others are: the forge is asked what is
there now, forks wait for approval, and what is known already is not run again.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from msgspec import Struct

from server.domain.change_heads import pull_line
from server.domain.events import ChangeProposed
from server.domain.links import KeptLink
from server.domain.missed import DueLink
from server.forges import FORGES, CannotRead, OpenChange
from server.services.forge_access import ForgeAccess
from server.store import catch_up, change_heads, deliveries, missed
from server.store.trouble import DATABASE_TROUBLE
from server.webhooks import SOURCES, moment

log = structlog.get_logger()

LOOK_SECONDS = 5.0
LINKS_A_ROUND = 20
ROUND_SECONDS = 90.0
LEASE_SECONDS = 120.0  # longer than a round may take
PAUSE_SECONDS = 60.0  # after trouble of the forge's, where it names none
# Between two repositories: what is missed by minutes is not worth a forge's rate.
STEP_SECONDS = 0.5


class CatchUp(Struct, frozen=True, kw_only=True):
    """What a round found."""

    links: int = 0
    found: int = 0
    has_more: bool = False


class CatchUpLoop:
    """Looks at repositories after each outage, until cancelled; one process at a time for each forge."""

    def __init__(self, db: asyncpg.Pool, access: ForgeAccess, *, step_seconds: float = STEP_SECONDS) -> None:
        self._db = db
        self._access = access
        self._step_seconds = step_seconds

    async def run(self) -> None:
        """The first look is at once: that is when something was missed."""
        while True:
            try:
                for name in FORGES:
                    while (done := await self.one_round(name)) is not None and done.has_more:
                        pass
            except DATABASE_TROUBLE as error:
                log.warning("missed changes not looked for", reason=type(error).__name__)
            await asyncio.sleep(LOOK_SECONDS)

    async def one_round(self, forge: str) -> CatchUp | None:
        """What was found in some of the repositories; None where none is due, or another process looks."""
        if not self._can_look(forge) or not await catch_up.due_links(self._db, forge, most=1):
            return None
        look = await missed.claim_look(self._db, f"{forge} changes", lease_seconds=LEASE_SECONDS)
        if look is None:
            return None
        next_in = 0.0
        try:
            async with asyncio.timeout(ROUND_SECONDS):
                return await self._round(forge)
        except (CannotRead, TimeoutError) as trouble:
            log.warning("missed changes not looked for", forge=forge, reason=str(trouble) or "It took too long.")
            next_in = max(getattr(trouble, "seconds", None) or 0.0, PAUSE_SECONDS)
            return None
        finally:
            await missed.end_look(self._db, look, seconds=next_in)

    def _can_look(self, forge: str) -> bool:
        return FORGES[forge].open_changes is not None and forge in SOURCES and SOURCES[forge].write is not None

    async def _round(self, forge: str) -> CatchUp:
        due = await catch_up.due_links(self._db, forge, most=LINKS_A_ROUND)
        found = 0
        for one in due:
            found += await self._look_at(one)
            await catch_up.was_caught_up(self._db, one)
            await asyncio.sleep(self._step_seconds)
        log.info("missed changes", forge=forge, repositories=len(due), found=found)
        return CatchUp(links=len(due), found=found, has_more=len(due) == LINKS_A_ROUND)

    async def _look_at(self, due: DueLink) -> int:
        """How many changes became deliveries. Raises CannotRead where it may work later."""
        link, list_open = due.link, FORGES[due.link.forge].open_changes
        assert list_open is not None, "others are not looked at"  # noqa: S101 -- for the type checker
        try:
            place = await self._access.place(link.as_link(), right="read")
            listed = await self._access.ask(list_open(place, due.since))
        except CannotRead as refused:
            if refused.retryable:
                raise
            # Such as a token that was taken back: the repository's next delivery says so, where people look.
            log.warning("repository cannot be looked at", forge=link.forge, repository=link.repository_id)
            return 0
        return sum([await self._deliver(link, one) for one in listed])

    async def _deliver(self, link: KeptLink, change: OpenChange) -> bool:
        """Whether it is a delivery now that was none before."""
        now = change.now
        known = await change_heads.lines_of_commit(
            self._db, forge=link.forge, repository_id=link.repository_id, head_sha=now.head_sha
        )
        if pull_line(link.forge, link.repository_id, now.number) in known:
            return False
        write = SOURCES[link.forge].write
        assert write is not None, "others are not looked at"  # noqa: S101 -- for the type checker
        written = write(_event(link, change))
        return await deliveries.keep_delivery(
            self._db,
            source=link.forge,
            hook_id=link.hook_id,
            delivery_id=f"missed:{link.repository_id}:{now.number}:{now.head_sha}",
            event=written.event,
            body=written.body,
            holder=_holder(link),
        )


def _holder(link: KeptLink) -> str:
    """As deliveries that come in say whose they are."""
    return f"{link.forge} {link.hook_id}" if link.hook_id is not None else f"{link.forge} {_place(link)}"


def _place(link: KeptLink) -> str:
    if link.installation_id is not None:
        return f"installation {link.installation_id}"
    return f"repository {link.repository_id}"


def _event(link: KeptLink, change: OpenChange) -> ChangeProposed:
    now = change.now
    return ChangeProposed(
        repository=link.as_link().repository,
        action="opened",
        number=now.number,
        head_sha=now.head_sha,
        head_ref=now.head_ref,
        head_repository_id=now.head_repository_id,
        base_ref=now.base_ref,
        base_sha=now.base_sha or "",
        is_draft=now.is_draft,
        at=moment(change.updated_at),
    )
