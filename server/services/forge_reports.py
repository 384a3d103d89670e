"""Where and as whom the service reports on forges: by the repository's link, with a token for that alone."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from functools import partial
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from notifiers import CannotNotify, NoResponse
from notifiers._http import TooLargeAnswer
from server.domain.links import Link
from server.forges import FORGES, CannotRead, Place, ReportTo
from server.services.delivering import ForgeAddress, ToldChange
from server.services.forge_access import SILENT, ForgeAccess
from server.services.linking import link_of_job
from server.services.token_refusals import LOST_OR_UNSEEN

NOT_LINKED = (
    "The repository is not linked any more, its installation is suspended, or no token was given that may write there."
)
# Bots are renamed, seldom.
LOGIN_SECONDS = 3600.0
MOST_KNOWN = 1000
MOVED = (301, 302, 307, 308)


class _Login(Struct, frozen=True):
    name: str
    until: float


class ForgeReports:
    """One for a process, over its access to forges. What it knows besides is in memory, and may be lost."""

    def __init__(
        self, db: asyncpg.Pool, access: ForgeAccess, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._db = db
        self._access = access
        self._monotonic = monotonic
        self._logins: dict[str, _Login] = {}
        self._held_until: dict[str, float] = {}

    async def address(self, told: ToldChange, *, marker: str) -> ForgeAddress:
        """With a token that is good now. Raises CannotNotify where there is no access, or none just now."""
        change = told.change
        link = await link_of_job(
            self._db, forge=change.forge, repository_id=change.repository_id, account_id=told.account_id
        )
        if link is None:
            raise CannotNotify(NOT_LINKED)
        holder = link.holder
        origin = self._access.origin(link.forge)
        self._require_free(origin, holder)
        try:
            place = await self._access.place(link, right="report")
            to = ReportTo(
                change=change,
                settings=told.settings,
                marker=marker,
                author=await self._login(holder, link, place),
                app_id=await self._app_id(link),
            )
        except CannotRead as error:
            if not error.retryable:
                await self._access.refusals.note(link.hook_id, "report", status=error.status, reason=str(error))
            raise self._as_told(holder, error) from None
        target = FORGES[link.forge].report_to(place, to)
        return ForgeAddress(
            kind=link.forge,
            target=target,
            origin=origin,
            holder=holder,
            note_answer=partial(self._access.silences.note_answer, origin, holder),
            learn=partial(self._learn, link.hook_id),
        )

    async def _learn(self, hook_id: UUID | None, error: CannotNotify | None) -> None:
        """Whether the token of a webhook may report: what its owner is shown."""
        if error is None:
            await self._access.refusals.note_use(hook_id, "report")
        elif not error.retryable:
            await self._access.refusals.note(
                hook_id, "report", status=error.status, reason=str(error), among=LOST_OR_UNSEEN
            )

    def understand(self, address: ForgeAddress, error: CannotNotify) -> CannotNotify:
        """What a refusal means here: a token may have ended before its time, a repository may have another name."""
        if isinstance(error, NoResponse) and not isinstance(error, TooLargeAnswer):
            self._access.silences.note_silence(address.origin, address.holder)
        else:
            address.note_answer()
        if error.retry_after_seconds is not None:
            self._hold(address.holder, error.retry_after_seconds)
        if error.status == 401 and (installation := _installation(address.holder)) is not None:
            self._access.forget_installation(*installation)
            return CannotNotify("The token was not accepted; a new one is asked for.", retryable=True, status=401)
        if error.status in MOVED:
            return CannotNotify("The repository has another name, which is not known yet.", retryable=True)
        return error

    def _as_told(self, holder: str, error: CannotRead) -> CannotNotify:
        if error.seconds is not None:
            self._hold(holder, error.seconds)
        return CannotNotify(str(error), retryable=error.retryable, retry_after_seconds=error.seconds)

    def _hold(self, holder: str, seconds: float) -> None:
        """A rate is of all that a token's holder does: whoever comes next waits, too."""
        self._held_until[holder] = self._monotonic() + seconds
        _forget_oldest(self._held_until)

    def _require_free(self, origin: str, holder: str) -> None:
        if silent := self._access.silences.left(origin, holder):
            raise CannotNotify(SILENT, retryable=True, retry_after_seconds=silent)
        left = self._held_until.get(holder, 0.0) - self._monotonic()
        if left > 0:
            raise CannotNotify("The forge asked for a pause.", retryable=True, retry_after_seconds=left, status=429)

    async def _login(self, holder: str, link: Link, place: Place) -> str:
        # A person's token may be replaced by somebody else's; those of an App come and go, and are all its own.
        if link.installation_id is None:
            holder += hashlib.sha256(place.token.reveal().encode()).hexdigest()
        known = self._logins.get(holder)
        if known is not None and known.until > self._monotonic():
            return known.name
        name = await self._access.ask(FORGES[link.forge].login(place))
        self._logins[holder] = _Login(name, self._monotonic() + LOGIN_SECONDS)
        _forget_oldest(self._logins)
        return name

    async def _app_id(self, link: Link) -> str | None:
        if link.installation_id is None:
            return None
        app = await self._access.apps.find(link.forge)
        return app.app_id if app is not None else None


def _installation(holder: str) -> tuple[str, int] | None:
    forge, number, _ = msgspec.json.decode(holder)
    return (forge, number) if number is not None else None


def _forget_oldest(known: dict[str, float] | dict[str, _Login]) -> None:
    while len(known) > MOST_KNOWN:
        known.pop(next(iter(known)))
