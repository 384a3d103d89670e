"""A worker's loop over the outbox: takes what is due, tells it, and keeps what came of it.

Needs no Redis: it looks each second, and at once when it is nudged. At least once: a worker that dies between the
answer and its note of it leaves a row whose lease runs out, and another tells it again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from notifiers import NOTIFIERS, Announcement, CannotNotify, InvalidTarget, Messages, Receipt, Standing
from notifiers._http import Patience
from server.domain.changes import Change
from server.domain.heads import Head
from server.domain.notifications import ClaimedNotification, ReadTarget, Told, ToldJob
from server.domain.reporting import CheckState, ReportSettings
from server.services.forge_notices import with_baseline, with_lines
from server.services.head_sums import LONGEST_QUEUED, NEVER_STARTED, sum_up
from server.services.notices import (
    STATES,
    check_announcement,
    notice_of,
    notifier_target,
    standing_of,
    standing_of_state,
    warning_announcement,
)
from server.services.posting import SHORT_PATIENCE, post
from server.services.public_addresses import INTERNET, Network
from server.services.public_client import public_client
from server.services.reporting import check_key
from server.services.sealing import CannotOpen, Sealer
from server.store import outbox
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

# Seconds from each failed try to the next, lengthened by up to a tenth so that many do not come at once: 34.6 h in all.
PAUSES_SECONDS = (5.0, 60.0, 300.0, 1800.0, 7200.0, 28_800.0, 86_400.0)
LONGEST_JITTER = 0.1
# Until then rows behind one wait for it, so that they arrive in order; for longer nobody waits.
TRIES_IN_ORDER = 4
LOOK_SECONDS = 1.0
NOTIFICATION_SECONDS = 100.0  # one message with all its requests
# As long as its worker lives a row stays its own; after a kill another tells it within this and a look.
LEASE_SECONDS = 20.0
BEATS_A_LEASE = 4
# Slack takes one message a second for each webhook; nobody else wants more.
BETWEEN_MESSAGES_SECONDS = 1.0
STOPPING_SECONDS = 2.0
MOST_WARNINGS = 100  # at one look
MOST_LOOKS = 100
MOST_NEWS = 1000  # of jobs, for the sums of their commits
# How far a job is: told after ten seconds, then ever more seldom, as a forge's rate is of all jobs of an installation.
PROGRESS_SECONDS, PROGRESS_SHARE = 10.0, 0.25
# A forge's check must not stay as it is only because telling it failed: it is looked at again for some days.
DEAD_AGAIN_SECONDS, DEAD_DAYS = 6 * 3600.0, 3
NEVER_STARTED_SUMMARY = "Something went wrong on our side. Push again, or comment /prpm test."
# The outbox itself tries again, so a slot is not held for it.
ONE_TRY = Patience(tries=1, pauses_seconds=0.0)


async def _learns_nothing(_: CannotNotify | None) -> None:
    """For a token that is nobody's of ours."""


class ForgeAddress(Struct, frozen=True, kw_only=True):
    """How a change's forge is told: by which notifier, as which target, at which `scheme://host[:port]`.

    `holder` names whose token the target has. `note_answer` is called when the forge took what it was told; `learn` is
    told what came of it for the token: None, or how the forge refused.
    """

    kind: str
    target: Any  # the notifier's own, with its token
    origin: str
    holder: str = ""
    note_answer: Callable[[], None] = lambda: None
    learn: Callable[[CannotNotify | None], Awaitable[None]] = _learns_nothing


class ToldChange(Struct, frozen=True, kw_only=True):
    """A change that is reported on, and how its repository wants that."""

    account_id: UUID
    change: Change
    settings: ReportSettings


class Forges(Protocol):
    """Who can report on forges in the service's own name."""

    async def address(self, told: ToldChange, *, marker: str) -> ForgeAddress:
        """Raises CannotNotify where there is no access, or none just now."""
        ...

    def understand(self, address: ForgeAddress, error: CannotNotify) -> CannotNotify:
        """What it means that the forge refused, for this try and for the next ones."""
        ...


class NoForges:
    """A service without any access of its own."""

    async def address(self, told: ToldChange, *, marker: str) -> ForgeAddress:
        raise CannotNotify("This service has no access to the forge of this change.")

    def understand(self, address: ForgeAddress, error: CannotNotify) -> CannotNotify:
        return error


class Outgoing(Struct, frozen=True, kw_only=True):
    """What notifications need beside the database."""

    sealer: Sealer | None
    allowed_origins: frozenset[str] = frozenset()
    public_url: str | None = None
    forges: Forges = NoForges()
    network: Network = INTERNET
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    jitter: Callable[[], float] = random.random


class Task(NamedTuple):
    """Messages to carry out, or why there are none."""

    messages: Messages | None
    origins: frozenset[str]
    told: Told | None = None
    patience: Patience = ONE_TRY
    quiet: str = ""
    address: ForgeAddress | None = None  # of a forge
    again_seconds: float | None = None  # it is looked at again then, though nobody says that there is more


class OutboxLoop:
    """Delivers up to `slots` rows at once until it is cancelled; of one account never more than it leaves free."""

    def __init__(
        self, db: asyncpg.Pool, outgoing: Outgoing, *, slots: int = 16, lease_seconds: float = LEASE_SECONDS
    ) -> None:
        self._db = db
        self._outgoing = outgoing
        self._slots = slots
        self._lease_seconds = lease_seconds
        self._nudged = asyncio.Event()
        self._running: dict[asyncio.Task[None], UUID] = {}  # each with the account whose it is

    def nudge(self) -> None:
        """There may be something to tell: look now."""
        self._nudged.set()

    async def run(self) -> None:
        """Until cancelled; what is on its way then has a moment to arrive."""
        try:
            while True:
                self._nudged.clear()
                try:
                    await outbox.tell_warnings(self._db, most=MOST_WARNINGS)
                    await outbox.look_again(self._db, most=MOST_LOOKS)
                    await outbox.wake_heads(self._db, most=MOST_NEWS)
                    while len(self._running) < self._slots and (found := await self._claim()):
                        self._start(found)
                except DATABASE_TROUBLE as error:
                    log.warning("outbox not read", reason=type(error).__name__)
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._nudged.wait()
                except TimeoutError:
                    pass
        finally:
            await self._stop()

    async def _claim(self) -> ClaimedNotification | None:
        return await outbox.claim_notification(
            self._db, lease_seconds=self._lease_seconds, full_accounts=self._full_accounts()
        )

    def _full_accounts(self) -> list[UUID]:
        """Those that have as many slots as are free: whose receivers are slow leaves some to others."""
        free = self._slots - len(self._running)
        return [account for account, count in Counter(self._running.values()).items() if count >= free]

    def _start(self, notification: ClaimedNotification) -> None:
        task = asyncio.create_task(self._deliver(notification), name=f"notification {notification.id}")
        self._running[task] = notification.account_id
        task.add_done_callback(self._ended)

    async def _deliver(self, notification: ClaimedNotification) -> None:
        beating = asyncio.create_task(self._keep_lease(notification), name=f"lease of notification {notification.id}")
        try:
            await deliver(self._db, notification, self._outgoing)
        except DATABASE_TROUBLE as error:
            # The lease runs out, and it is told again.
            log.warning("notification not kept", notification=notification.id, reason=type(error).__name__)
        finally:
            beating.cancel()

    async def _keep_lease(self, notification: ClaimedNotification) -> None:
        """Until cancelled. A message whose lease was lost goes on: it may have arrived, and the fence keeps one end."""
        while True:
            await asyncio.sleep(self._lease_seconds / BEATS_A_LEASE)
            try:
                await outbox.extend_lease(self._db, notification, lease_seconds=self._lease_seconds)
            except DATABASE_TROUBLE as error:
                log.warning("lease not extended", notification=notification.id, reason=type(error).__name__)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        if not task.cancelled() and (error := task.exception()):
            log.error("notification crashed", reason=type(error).__name__, exc_info=error)
        self.nudge()

    async def _stop(self) -> None:
        if self._running:
            _, late = await asyncio.wait(self._running, timeout=STOPPING_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)


async def deliver(db: asyncpg.Pool, notification: ClaimedNotification, outgoing: Outgoing) -> None:
    """Tell one row and keep what came of it. Raises what asyncpg does; then the row's lease runs out."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(NOTIFICATION_SECONDS):
            task = await _prepare(db, notification, outgoing)
            receipt = await _carry_out(task, outgoing)
    except CannotNotify as error:
        await _keep_failure(db, notification, error, outgoing)
        return
    except TimeoutError:
        await _keep_failure(db, notification, CannotNotify("The message took too long.", retryable=True), outgoing)
        return
    except OSError:
        # The network's or the database's; where it is the latter, keeping this fails too, and the lease runs out.
        unreachable = CannotNotify("Something outside did not answer.", retryable=True)
        await _keep_failure(db, notification, unreachable, outgoing)
        return
    except DATABASE_TROUBLE:
        raise
    except Exception as error:
        log.error("notification crashed", notification=notification.id, reason=type(error).__name__, exc_info=error)
        await _keep_failure(db, notification, CannotNotify("The message could not be made.", retryable=True), outgoing)
        return
    state = "sent" if receipt.did else "quiet"
    told = _with_receipt(task.told, receipt)
    hold = BETWEEN_MESSAGES_SECONDS if receipt.did and notification.target_id else 0.0
    kept = await outbox.settle_notification(
        db,
        notification,
        state=state,
        reason=receipt.reason or None,
        hold_seconds=hold,
        told=told,
        again_seconds=task.again_seconds,
    )
    if not kept:
        await _heal(db, notification)
    log.info(
        "notification settled", notification=notification.id, state=state, kept=kept, attempts=notification.attempts,
        seconds=round(time.monotonic() - began, 3),
    )  # fmt: skip


async def _carry_out(task: Task, outgoing: Outgoing) -> Receipt:
    if task.messages is None:
        return Receipt.quiet(task.quiet)
    async with public_client(allowed_origins=task.origins, network=outgoing.network) as client:
        try:
            receipt = await post(task.messages, client=client, patience=task.patience)
        except CannotNotify as error:
            if task.address is None:
                raise
            await task.address.learn(error)
            raise outgoing.forges.understand(task.address, error) from None
        if task.address is not None:
            task.address.note_answer()
            if receipt.did:
                await task.address.learn(None)
        return receipt


async def _heal(db: asyncpg.Pool, notification: ClaimedNotification) -> None:
    """What a forge shows may be ours, who came too late: whoever has the row now, or had it, tells it once more."""
    if notification.target_id is None and await outbox.tell_again(db, notification):
        log.warning("notification told too late", notification=notification.id)


async def _prepare(db: asyncpg.Pool, notification: ClaimedNotification, outgoing: Outgoing) -> Task:
    """Raises CannotNotify."""
    if notification.event == "head":
        return await _for_head(db, notification, outgoing)
    job = await outbox.read_told_job(db, notification.job_id) if notification.job_id else None
    if notification.target_id is None and job is None:
        return await _for_state(db, notification, outgoing)
    if notification.target_id is None:
        assert job is not None, "what is no state is a job's"  # noqa: S101 -- for the type checker
        return await _for_forge(db, job, outgoing)
    target = await outbox.read_target(db, notification.target_id, subject=job.subject if job else None)
    if target is None:
        return Task(None, frozenset(), quiet="the target was removed")
    if job is not None:
        return _for_job(job, target, outgoing)
    return _for_announcement(notification, target, outgoing)


def _for_job(job: ToldJob, target: ReadTarget, outgoing: Outgoing) -> Task:
    is_late = target.previous_accepted_at is not None and target.previous_accepted_at > job.created_at
    if is_late and target.mode == "changes":
        return Task(None, frozenset(), quiet="a later run was told before")
    notice = notice_of(job, previous=target.previous, now=outgoing.now(), public_url=outgoing.public_url)
    # A pull request has one message that stays true; on a branch each change is a message of its own.
    edits = job.change is not None and isinstance(job.change.pull_request, int)
    own = _open(target, outgoing, edits=edits)
    told = Told(
        subject=job.subject,
        accepted_at=job.created_at,
        conclusion=notice.conclusion if notice.conclusion in STATES and not is_late else None,
    )
    return Task(NOTIFIERS[target.kind].tell(notice, own), outgoing.allowed_origins, told=told)


def _for_announcement(notification: ClaimedNotification, target: ReadTarget, outgoing: Outgoing) -> Task:
    own = _open(target, outgoing, edits=False)
    say = NOTIFIERS[target.kind].say
    if say is None:
        raise CannotNotify(f"A {target.kind} target is told of jobs alone.")
    return Task(say(_announcement(notification, outgoing), own), outgoing.allowed_origins)


def _announcement(notification: ClaimedNotification, outgoing: Outgoing) -> Announcement:
    event_id = f"{notification.event}_{notification.id}"
    if notification.event == "warning" and notification.facts is not None:
        return warning_announcement(event_id, notification.facts, at=notification.created_at, now=outgoing.now())
    return check_announcement(event_id, at=notification.created_at, now=outgoing.now())


def _open(target: ReadTarget, outgoing: Outgoing, *, edits: bool) -> Any:
    """The notifier's target. Raises CannotNotify; what an operator can mend may be tried later."""
    if outgoing.sealer is None:
        raise CannotNotify("The operator has to set PRPM_SECRET_KEY: addresses cannot be opened.", retryable=True)
    if target.kind not in NOTIFIERS:
        raise CannotNotify("This version of the service knows no such kind of target.", retryable=True)
    try:
        address = outgoing.sealer.open(target.id, target.sealed)
        return notifier_target(target, address, allowed=outgoing.allowed_origins, edits=edits)
    except CannotOpen as error:
        raise CannotNotify(f"The address cannot be opened: {error}.", retryable=True) from None
    except InvalidTarget as error:
        raise CannotNotify(f"The address is not allowed any more. {error}") from None


async def _for_forge(db: asyncpg.Pool, job: ToldJob, outgoing: Outgoing) -> Task:
    """The job as it is now, whatever it was when the row was written."""
    assert job.change is not None, "a forge is told of changes alone"  # noqa: S101 -- the trigger sees to it
    named = check_key(job.change, package=job.package_name, suite_name=job.suite_name)
    if await outbox.follows_own_word(db, job.id, named):
        # Whoever proposes a change may alter its workflow, which may submit what it likes of this very commit.
        return Task(None, frozenset(), quiet="what the service itself found of this commit is what is told")
    marker = _sealer(outgoing).marker(job.change, package=job.package_name, suite_name=job.suite_name)
    told = ToldChange(account_id=job.account_id, change=job.change, settings=job.report)
    address = await outgoing.forges.address(told, marker=marker)
    if not job.has_ended:
        standing = standing_of(job, public_url=outgoing.public_url)
        return _stand(standing, address, again_seconds=_progress_pause(job))
    notice = notice_of(job, previous=None, now=outgoing.now(), public_url=outgoing.public_url)
    notice = await with_baseline(db, job, await with_lines(db, job, notice))
    messages = NOTIFIERS[address.kind].tell(notice, address.target)
    # Several requests, of which the last may be refused for now: begun again from the first would be more of them.
    return Task(messages, frozenset({address.origin}), patience=SHORT_PATIENCE, address=address)


async def _for_state(db: asyncpg.Pool, notification: ClaimedNotification, outgoing: Outgoing) -> Task:
    """A check that no job stands behind."""
    said = msgspec.json.decode(notification.facts or "", type=CheckState)
    if await outbox.has_job_since(db, notification, said.at):
        return Task(None, frozenset(), quiet="a job stands for it")
    age = outgoing.now() - said.at
    again_seconds = None
    if said.state == "queued":
        if age >= LONGEST_QUEUED:
            said = msgspec.structs.replace(said, state="neutral", title=NEVER_STARTED, summary=NEVER_STARTED_SUMMARY)
        else:
            again_seconds = (LONGEST_QUEUED - age).total_seconds() + 1.0
    marker = _sealer(outgoing).marker(said.change, package=said.package or "", suite_name=said.suite_name)
    settings = ReportSettings(commit_status=said.commit_status)
    told = ToldChange(account_id=notification.account_id, change=said.change, settings=settings)
    address = await outgoing.forges.address(told, marker=marker)
    return _stand(standing_of_state(said), address, again_seconds=again_seconds)


async def _for_head(db: asyncpg.Pool, notification: ClaimedNotification, outgoing: Outgoing) -> Task:
    """The sum of a commit's packages as they are now, whatever they were when the row was written."""
    head = msgspec.json.decode(notification.facts or "", type=Head)
    parts = await outbox.read_head_parts(db, notification)
    found = sum_up(head, parts, now=outgoing.now(), public_url=outgoing.public_url)
    marker = _sealer(outgoing).marker(found.change, package="", suite_name=found.standing.suite)
    settings = ReportSettings(commit_status=head.has_status)
    told = ToldChange(account_id=notification.account_id, change=found.change, settings=settings)
    address = await outgoing.forges.address(told, marker=marker)
    return _stand(found.standing, address, again_seconds=found.again_seconds)


def _stand(standing: Standing, address: ForgeAddress, *, again_seconds: float | None) -> Task:
    stand = NOTIFIERS[address.kind].stand
    if stand is None:
        return Task(None, frozenset(), quiet="only ends are told there")
    return Task(
        stand(standing, address.target),
        frozenset({address.origin}),
        patience=SHORT_PATIENCE,
        address=address,
        again_seconds=again_seconds,
    )


def _progress_pause(job: ToldJob) -> float | None:
    """Seconds until the counts are told again; None while nothing runs, as its start is told by itself."""
    if job.status != "running" or job.started_at is None:
        return None
    return max(PROGRESS_SECONDS, (job.read_at - job.started_at).total_seconds() * PROGRESS_SHARE)


def _sealer(outgoing: Outgoing) -> Sealer:
    if outgoing.sealer is None:
        raise CannotNotify("The operator has to set PRPM_SECRET_KEY: no comment can be marked.", retryable=True)
    return outgoing.sealer


def _with_receipt(told: Told | None, receipt: Receipt) -> Told | None:
    if told is None:
        return None
    return Told(
        subject=told.subject,
        accepted_at=told.accepted_at,
        conclusion=told.conclusion,
        message_id=receipt.message_id,
    )


async def _keep_failure(
    db: asyncpg.Pool, notification: ClaimedNotification, error: CannotNotify, outgoing: Outgoing
) -> None:
    pause = pause_before(notification.attempts, error, jitter=outgoing.jitter)
    log.warning(
        "notification failed", notification=notification.id, attempts=notification.attempts, status=error.status,
        again_in_seconds=round(pause) if pause is not None else None,
    )  # fmt: skip
    if pause is not None:
        kept = await outbox.delay_notification(
            db,
            notification,
            seconds=pause,
            status=error.status,
            reason=error.message,
            lets_others_pass=notification.attempts >= TRIES_IN_ORDER,
            hold_seconds=error.retry_after_seconds or BETWEEN_MESSAGES_SECONDS,
        )
        if not kept:
            await _heal(db, notification)
        return
    given_up = error.retryable
    again = DEAD_AGAIN_SECONDS if notification.target_id is None and _is_young(notification, outgoing) else None
    kept = await outbox.settle_notification(
        db, notification, state="dead", status=error.status, reason=error.message, again_seconds=again
    )
    if not kept:
        await _heal(db, notification)
        return
    if notification.target_id is None:
        return
    if error.gone:
        await outbox.stop_target(db, notification.target_id, reason=error.message)
    elif given_up and not await outbox.was_told_since(db, notification):
        reason = f"Nothing could be told there for 34 hours. The last try said: {error.message}"
        await outbox.stop_target(db, notification.target_id, reason=reason)


def _is_young(notification: ClaimedNotification, outgoing: Outgoing) -> bool:
    return outgoing.now() - notification.created_at < timedelta(days=DEAD_DAYS)


def pause_before(tries: int, error: CannotNotify, *, jitter: Callable[[], float]) -> float | None:
    """Seconds until the next try after so many; None when there is none. What the other side asks for is waited."""
    if not error.retryable or tries > len(PAUSES_SECONDS):
        return None
    planned = PAUSES_SECONDS[tries - 1] * (1 + LONGEST_JITTER * jitter())
    return max(planned, error.retry_after_seconds or 0.0)
