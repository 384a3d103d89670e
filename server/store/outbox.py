"""The outbox in PostgreSQL: one verb a change of state."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec

from server.domain.changes import Change
from server.domain.notifications import (
    ClaimedDelivery,
    Delivery,
    OutboxCount,
    OutboxRow,
    ReadTarget,
    Told,
    ToldJob,
)
from server.store.queries import read_queries

SQL = read_queries("outbox")


async def claim_delivery(db: asyncpg.Pool, *, lease_seconds: float) -> ClaimedDelivery | None:
    """The next that is due; None when none is."""
    row = await db.fetchrow(SQL["claim_delivery"], lease_seconds)
    return ClaimedDelivery(**dict(row)) if row else None


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
    change = row.pop("change")
    return ToldJob(
        account_id=row.pop("user_id"),
        change=msgspec.json.decode(change, type=Change) if change else None,
        **row,
    )


async def settle_delivery(
    db: asyncpg.Pool,
    delivery: ClaimedDelivery,
    *,
    state: str,
    status: int | None = None,
    reason: str | None = None,
    hold_seconds: float = 0.0,
    told: Told | None = None,
) -> bool:
    """False when it is another's."""
    row = await db.fetchrow(
        SQL["settle_delivery"],
        delivery.id, delivery.fence, state, status, reason, hold_seconds,
        *((told.subject, told.conclusion, told.accepted_at, told.message_id) if told else (None, None, None, None)),
    )  # fmt: skip
    return row is not None


async def delay_delivery(
    db: asyncpg.Pool,
    delivery: ClaimedDelivery,
    *,
    seconds: float,
    status: int | None,
    reason: str,
    lets_others_pass: bool,
    hold_seconds: float,
) -> bool:
    """False when it is another's."""
    row = await db.fetchrow(
        SQL["delay_delivery"], delivery.id, delivery.fence, seconds, status, reason, lets_others_pass, hold_seconds
    )
    return row is not None


async def stop_target(db: asyncpg.Pool, target_id: UUID, *, reason: str) -> int:
    """How many rows are dead with it."""
    return len(await db.fetch(SQL["stop_target"], target_id, reason))


async def was_told_since(db: asyncpg.Pool, delivery: ClaimedDelivery) -> bool:
    """Whether anything reached the delivery's target since the delivery was written."""
    return bool(await db.fetchval(SQL["was_told_since"], delivery.target_id, delivery.created_at))


async def add_event(
    db: asyncpg.Pool, *, dedupe_key: str, target_id: UUID, account_id: UUID, event: str, facts: str | None = None
) -> int | None:
    """The row's id; None when it is there already, or the target is stopped, removed or another's."""
    row_id: int | None = await db.fetchval(SQL["add_event"], dedupe_key, target_id, account_id, event, facts)
    return row_id


async def add_warning(db: asyncpg.Pool, account_id: UUID, *, dedupe_key: str, facts: str) -> int:
    """To how many targets it will be told."""
    return len(await db.fetch(SQL["add_warning"], account_id, dedupe_key, facts))


async def list_deliveries(db: asyncpg.Pool, target_id: UUID, *, account_id: UUID, most: int) -> list[Delivery]:
    """Newest first."""
    return [Delivery(**dict(row)) for row in await db.fetch(SQL["list_deliveries"], target_id, account_id, most)]


async def count_outbox(db: asyncpg.Pool) -> list[OutboxCount]:
    return [OutboxCount(**dict(row)) for row in await db.fetch(SQL["count_outbox"])]


async def list_outbox(db: asyncpg.Pool, *, state: str, most: int) -> list[OutboxRow]:
    """Newest first."""
    rows = [dict(row) for row in await db.fetch(SQL["list_outbox"], state, most)]
    return [
        OutboxRow(username=row.pop("username"), kind=row.pop("kind"), shown=row.pop("shown"), delivery=Delivery(**row))
        for row in rows
    ]


async def replay_dead(db: asyncpg.Pool, *, row_id: int | None = None, target_id: UUID | None = None) -> int:
    """How many are pending again."""
    return len(await db.fetch(SQL["replay_dead"], row_id, target_id))
