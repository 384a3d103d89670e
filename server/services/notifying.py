"""An account's targets of notifications: add, look at, check, stop being told."""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
from typing import Literal
from uuid import UUID, uuid4

import asyncpg
from msgspec import Struct

from notifiers import NOTIFIERS, InvalidTarget, checked_url, target_for
from server.domain.errors import Conflict, InvalidRequest, NotFound, TooMany
from server.domain.jobs import JobView
from server.domain.notifications import Notification, Target, TargetMode
from server.services.notices import masked
from server.services.public_addresses import LookUp, addresses_of, is_public
from server.services.sealing import Sealer
from server.store import notify_targets, outbox
from server.store.notify_targets import NewTarget, Sealed

MOST_TARGETS = 50
SHOWN_DELIVERIES = 50
GLOB = re.compile(r"[a-z0-9@/*?-]{1,214}")
WORDS: tuple[TargetMode, ...] = ("changes", "failures", "always")
# How long an answer waits for the name's addresses; what is slower is looked at when it is called.
LOOK_UP_SECONDS = 2.0


class Wanted(Struct, frozen=True, kw_only=True):
    """A target as it is asked for. Nothing of it has been looked at."""

    kind: str
    url: str
    package_glob: str = "*"
    mode: str | None = None  # None: as the kind does by itself
    secret: str | None = None


class Added(Struct, frozen=True, kw_only=True):
    """A new target; `secret` is shown this once, where one signs."""

    target: Target
    secret: str | None


class Notifying(Struct, frozen=True, kw_only=True):
    """What the verbs below need: a database, the secret key if there is one, and what the operator allowed."""

    db: asyncpg.Pool
    sealer: Sealer | None
    allowed_origins: frozenset[str] = frozenset()


async def add_target(site: Notifying, account_id: UUID, wanted: Wanted, *, look_up: LookUp = addresses_of) -> Added:
    """A target that is told of what ends from now on. Raises InvalidRequest, Conflict or TooMany, and keeps nothing."""
    sealer = _need_sealer(site)
    mode, secret = _checked(wanted, allowed=site.allowed_origins)
    if not await _leads_outside(wanted.url, allowed=site.allowed_origins, look_up=look_up):
        raise InvalidRequest("url: leads to a host that is not on the public internet.", code="invalid_target")
    target_id = uuid4()
    new = NewTarget(
        id=target_id,
        account_id=account_id,
        kind=wanted.kind,
        package_glob=wanted.package_glob,
        mode=mode,
        sealed=sealer.seal(target_id, url=wanted.url, secret=secret or ""),
        address_mac=sealer.address_mac(wanted.kind, wanted.url),
        shown=masked(wanted.url, allowed=site.allowed_origins),
    )
    target = await notify_targets.add_target(site.db, new, most=MOST_TARGETS)
    if target is not None:
        return Added(target=target, secret=secret)
    if found := await notify_targets.find_equal_target(site.db, new):
        raise Conflict(f"This address is told of these packages already, as target {found}.", code="target_exists")
    raise TooMany(f"An account has at most {MOST_TARGETS} targets. Remove one first.", code="too_many_targets")


def _checked(wanted: Wanted, *, allowed: frozenset[str]) -> tuple[TargetMode, str | None]:
    """When to tell, and with what to sign. Raises InvalidRequest."""
    if not GLOB.fullmatch(wanted.package_glob):
        raise InvalidRequest(
            "package: has to be a package's name, in which * and ? stand for any characters and any one.",
            code="invalid_target",
        )
    try:
        made = target_for(wanted.kind, wanted.url, allowed_origins=allowed)
    except InvalidTarget as error:
        raise InvalidRequest(f"url: {error}", code="invalid_target") from None
    mode = wanted.mode or getattr(made, "when", "changes")
    if mode not in WORDS:
        raise InvalidRequest(f"on: has to be one of {', '.join(WORDS)}.", code="invalid_target")
    if not hasattr(made, "secret"):
        if wanted.secret is not None:
            raise InvalidRequest(f"secret: a {wanted.kind} target signs nothing.", code="invalid_target")
        return mode, None
    secret = wanted.secret or f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    try:
        type(made)(url=made.url, secret=secret)
    except ValueError as error:
        raise InvalidRequest(f"secret: {error}.", code="invalid_target") from None
    return mode, secret


async def _leads_outside(url: str, *, allowed: frozenset[str], look_up: LookUp) -> bool:
    """False only for a name that surely leads into a network of somebody's own."""
    checked = checked_url(url, allowed_origins=allowed)
    if checked.is_exempt:
        return True
    try:
        async with asyncio.timeout(LOOK_UP_SECONDS):
            return all(is_public(address) for address in await look_up(checked.host))
    except (OSError, TimeoutError):
        return True  # it is looked at again whenever it is called


async def list_targets(site: Notifying, account_id: UUID) -> list[Target]:
    """Oldest first, each with its last notification."""
    return await notify_targets.list_targets(site.db, account_id)


async def list_notifications(site: Notifying, account_id: UUID, target_id: UUID) -> list[Notification]:
    """The target's latest, newest first. Raises NotFound."""
    await _need_own(site, account_id, target_id)
    return await outbox.list_notifications(site.db, target_id, account_id=account_id, most=SHOWN_DELIVERIES)


async def remove_target(site: Notifying, account_id: UUID, target_id: UUID) -> None:
    """Nothing more is told there, and its address is forgotten. Raises NotFound."""
    if not await notify_targets.remove_target(site.db, target_id, account_id=account_id):
        raise no_target()


async def resume_target(site: Notifying, account_id: UUID, target_id: UUID) -> Target:
    """A stopped target is told again of what ends from now on. Safe to call twice. Raises NotFound."""
    target = await notify_targets.resume_target(site.db, target_id, account_id=account_id)
    if target is None:
        raise no_target()
    return target


async def check_target(site: Notifying, account_id: UUID, target_id: UUID) -> int:
    """The id of a notification that says that the target works. Raises NotFound, or Conflict for a stopped one."""
    target = await _need_own(site, account_id, target_id)
    if NOTIFIERS[target.kind].say is None:
        raise Conflict(f"A {target.kind} target is told of jobs alone, so there is nothing to check it with.")
    row_id = await outbox.add_event(
        site.db, dedupe_key=f"check:{uuid4()}", target_id=target_id, account_id=account_id, event="check"
    )
    if row_id is None:
        raise Conflict(
            f"This target is stopped. {target.stopped_reason or ''} Resume it first.".replace("  ", " "),
            code="target_stopped",
        )
    return row_id


class Report(Struct, frozen=True, kw_only=True):
    """Who tells a change's forge of a job, and the code that marks the one comment."""

    marker: str  # 64 hex digits
    reporter: Literal["app", "action"]
    previous: str | None  # what the change's last run before this one came to: passed or failed


def report_of(site: Notifying, job: JobView) -> Report | None:
    """None for a job of no change, or where no key makes codes: then nobody can keep one comment."""
    if job.change is None or site.sealer is None:
        return None
    return Report(
        marker=site.sealer.marker(job.change, package=job.package_name, suite_name=job.suite_name),
        reporter="app" if job.is_reported_here else "action",
        previous=job.previous,
    )


async def reseal(site: Notifying) -> tuple[int, int]:
    """How many addresses are under the first key now, and how many no key opens. Safe to call twice, and to stop."""
    sealer = _need_sealer(site)
    done = lost = 0
    for was in await notify_targets.list_sealed(site.db):
        if await _reseal_one(site.db, was, sealer):
            done += 1
        else:
            lost += 1
    return done, lost


async def _reseal_one(db: asyncpg.Pool, was: Sealed, sealer: Sealer) -> bool:
    from server.services.sealing import CannotOpen

    try:
        address = sealer.open(was.id, was.sealed)
    except CannotOpen:
        return False
    sealed = sealer.seal(was.id, url=address.url, secret=address.secret)
    await notify_targets.replace_sealed(db, was, sealed=sealed, address_mac=sealer.address_mac(was.kind, address.url))
    return True


async def _need_own(site: Notifying, account_id: UUID, target_id: UUID) -> Target:
    target = await notify_targets.read_own_target(site.db, target_id, account_id=account_id)
    if target is None:
        raise no_target()
    return target


def no_target() -> NotFound:
    """One answer for what is not there and what is another's."""
    return NotFound("There is no such target, or it is not yours.", code="target_not_found")


def _need_sealer(site: Notifying) -> Sealer:
    if site.sealer is None:
        raise Conflict(
            "This service cannot keep addresses: its operator has to set PRPM_SECRET_KEY.", code="no_secret_key"
        )
    return site.sealer
