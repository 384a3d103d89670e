"""The outbox in PostgreSQL: one verb a change of state."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from server.domain.changes import Change
from server.domain.heads import Head, HeadPart, PartJob
from server.domain.notifications import (
    ClaimedNotification,
    Notification,
    OutboxCount,
    OutboxRow,
    ReadTarget,
    Told,
    ToldJob,
)
from server.domain.reporting import ReportSettings
from server.store.queries import read_queries

SQL = read_queries("outbox")


async def claim_notification(
    db: asyncpg.Pool, *, lease_seconds: float, full_accounts: Sequence[UUID] = ()
) -> ClaimedNotification | None:
    """The next that is due, of none of these accounts; None when none is."""
    row = await db.fetchrow(SQL["claim_notification"], lease_seconds, full_accounts)
    return ClaimedNotification(**dict(row)) if row else None


async def read_target(db: asyncpg.Pool, target_id: UUID, *, subject: str | None) -> ReadTarget | None:
    """None once it was removed."""
    row = await db.fetchrow(SQL["read_target"], target_id, subject)
    if row is None:
        return None
    return ReadTarget(
        id=row["id"],
        account_id=row["account_id"],
        kind=row["kind"],
        mode=row["mode"],
        sealed=row["sealed"],
        previous=row["conclusion"],
        previous_accepted_at=row["accepted_at"],
        message_id=row["message_id"],
    )


async def read_told_job(db: asyncpg.Pool, job_id: UUID) -> ToldJob:
    """Jobs are kept for good."""
    row = dict(await db.fetchrow(SQL["read_told_job"], job_id))
    change, report = row.pop("change"), row.pop("report")
    return ToldJob(
        account_id=row.pop("user_id"),
        change=msgspec.json.decode(change, type=Change) if change else None,
        report=msgspec.json.decode(report, type=ReportSettings) if report else ReportSettings(),
        **row,
    )


async def extend_lease(db: asyncpg.Pool, notification: ClaimedNotification, *, lease_seconds: float) -> bool:
    """False when it is another's, or settled."""
    return await db.fetchval(SQL["extend_lease"], notification.id, notification.fence, lease_seconds) is not None


async def read_baseline_score(db: asyncpg.Pool, job: ToldJob, *, kind: str, name: str) -> float | None:
    """0 to 1; None where the baseline's newest run is not known, or asked other models."""
    repository = f"{job.change.forge}:{job.change.repository_id}" if job.change else None
    score: float | None = await db.fetchval(
        SQL["read_baseline_score"], job.account_id, job.package_name, job.suite_name, kind, name, repository,
        job.models, job.completed_at,
    )  # fmt: skip
    return score


async def settle_notification(
    db: asyncpg.Pool,
    notification: ClaimedNotification,
    *,
    state: str,
    status: int | None = None,
    reason: str | None = None,
    hold_seconds: float = 0.0,
    told: Told | None = None,
    again_seconds: float | None = None,
) -> bool:
    """False when it is another's. It stays pending where there is more to tell since it was claimed."""
    row = await db.fetchrow(
        SQL["settle_notification"],
        notification.id, notification.fence, state, status, reason, hold_seconds,
        *((told.subject, told.conclusion, told.accepted_at, told.message_id) if told else (None, None, None, None)),
        notification.news, again_seconds,
    )  # fmt: skip
    return row is not None


async def delay_notification(
    db: asyncpg.Pool,
    notification: ClaimedNotification,
    *,
    seconds: float,
    status: int | None,
    reason: str,
    lets_others_pass: bool,
    hold_seconds: float,
) -> bool:
    """False when it is another's."""
    row = await db.fetchrow(
        SQL["delay_notification"],
        notification.id,
        notification.fence,
        seconds,
        status,
        reason,
        lets_others_pass,
        hold_seconds,
    )
    return row is not None


async def tell_again(db: asyncpg.Pool, notification: ClaimedNotification) -> bool:
    """It is pending again, unless it is still ours."""
    return await db.fetchval(SQL["tell_again"], notification.id, notification.fence) is not None


async def look_again(db: asyncpg.Pool, *, most: int) -> int:
    """How many that were settled are pending from now on."""
    return len(await db.fetch(SQL["look_again"], most))


async def follows_own_word(db: asyncpg.Pool, job_id: UUID, dedupe_key: str) -> bool:
    """Whether somebody with a token submitted the job after the service itself had submitted one of the same commit, or
    had said under this key that it fails."""
    return await db.fetchval(SQL["follows_own_word"], job_id, dedupe_key) is True


async def report_state(db: asyncpg.Pool, *, dedupe_key: str, account_id: UUID, facts: str) -> bool:
    """False when it is shown so already, or about to be."""
    return await db.fetchval(SQL["report_state"], dedupe_key, account_id, facts) is not None


async def change_head(
    db: asyncpg.Pool, *, account_id: UUID, change: Change, changed: Callable[[Head], Head | None]
) -> bool:
    """What is known of the change's commit is what `changed` makes of it; False where that is None: nothing is kept."""
    with contextlib.suppress(_Unchanged):
        async with db.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(SQL["lock_head"], account_id, msgspec.json.encode(change).decode())
            new = changed(msgspec.json.decode(row["facts"], type=Head))
            if new is None:
                raise _Unchanged  # nor is a row left that was made for it
            await connection.execute(SQL["keep_head"], row["id"], msgspec.json.encode(new).decode())
            return True
    return False


class _Unchanged(Exception):
    """Ends a transaction without any trace."""


async def wake_heads(db: asyncpg.Pool, *, most: int) -> int:
    """How many sums of commits are to be told, as jobs of theirs have changed."""
    return len(await db.fetch(SQL["wake_heads"], most))


async def read_head_parts(db: asyncpg.Pool, notification: ClaimedNotification) -> list[HeadPart]:
    """Each package of each change of the commit, as its jobs are now."""
    return [
        HeadPart(
            change=row["change"],
            part=row["part"],
            has_newer=row["has_newer"],
            job=PartJob(**{name: row[name] for name in PartJob.__struct_fields__}) if row["id"] else None,
        )
        for row in await db.fetch(SQL["read_head_parts"], notification.account_id, notification.facts)
    ]


async def has_job_since(db: asyncpg.Pool, notification: ClaimedNotification, since: datetime) -> bool:
    """Whether a job stands for the check of this state by now."""
    return bool(await db.fetchval(SQL["has_job_since"], notification.account_id, notification.facts, since))


async def stop_target(db: asyncpg.Pool, target_id: UUID, *, reason: str) -> int:
    """How many rows are dead with it."""
    return len(await db.fetch(SQL["stop_target"], target_id, reason))


async def was_told_since(db: asyncpg.Pool, notification: ClaimedNotification) -> bool:
    """Whether anything reached the notification's target since the notification was written."""
    return bool(await db.fetchval(SQL["was_told_since"], notification.target_id, notification.created_at))


async def add_event(
    db: asyncpg.Pool, *, dedupe_key: str, target_id: UUID, account_id: UUID, event: str, facts: str | None = None
) -> int | None:
    """The row's id; None when it is there already, or the target is stopped, removed or another's."""
    row_id: int | None = await db.fetchval(SQL["add_event"], dedupe_key, target_id, account_id, event, facts)
    return row_id


async def tell_warnings(db: asyncpg.Pool, *, most: int) -> int:
    """How many notifications of warnings are pending from now on."""
    return len(await db.fetch(SQL["tell_warnings"], most))


async def list_notifications(db: asyncpg.Pool, target_id: UUID, *, account_id: UUID, most: int) -> list[Notification]:
    """Newest first."""
    return [Notification(**dict(row)) for row in await db.fetch(SQL["list_notifications"], target_id, account_id, most)]


async def count_outbox(db: asyncpg.Pool) -> list[OutboxCount]:
    return [OutboxCount(**dict(row)) for row in await db.fetch(SQL["count_outbox"])]


async def list_outbox(db: asyncpg.Pool, *, state: str, most: int) -> list[OutboxRow]:
    """Newest first."""
    rows = [dict(row) for row in await db.fetch(SQL["list_outbox"], state, most)]
    return [
        OutboxRow(
            username=row.pop("username"), kind=row.pop("kind"), shown=row.pop("shown"), notification=Notification(**row)
        )
        for row in rows
    ]


async def replay_dead(db: asyncpg.Pool, *, row_id: int | None = None, target_id: UUID | None = None) -> int:
    """How many are pending again."""
    return len(await db.fetch(SQL["replay_dead"], row_id, target_id))
