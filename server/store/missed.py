"""Missed deliveries in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import asyncpg

from server.domain.missed import Look, Missed, Sent
from server.store.queries import read_queries

SQL = read_queries("missed")


async def claim_look(db: asyncpg.Pool, source: str, *, lease_seconds: float) -> Look | None:
    """The look at the source's list, None if it is not due or another process has it."""
    row = await db.fetchrow(SQL["claim_look"], source, lease_seconds)
    return Look(**row) if row is not None else None


async def note_missed(db: asyncpg.Pool, source: str, failed: Sequence[Sent]) -> None:
    """Kept, but for those that are here. Safe to call twice."""
    await db.execute(
        SQL["note_missed"],
        source,
        [one.attempt_id for one in failed],
        [one.delivery_id for one in failed],
        [one.event for one in failed],
        [one.trouble for one in failed],
        [one.sent_at for one in failed],
    )


async def walk_on(db: asyncpg.Pool, look: Look, *, walk_until: datetime | None, cursor: str) -> bool:
    """Whether the look was still ours."""
    return await db.fetchval(SQL["walk_on"], look.source, look.fence, walk_until, cursor) is not None


async def end_walk(db: asyncpg.Pool, look: Look, *, until: datetime | None) -> bool:
    """Whether the look was still ours; None as `until` begins anew where this walk began."""
    return await db.fetchval(SQL["end_walk"], look.source, look.fence, until) is not None


async def end_look(db: asyncpg.Pool, look: Look, *, seconds: float) -> None:
    """The next one may begin in so many seconds."""
    await db.execute(SQL["end_look"], look.source, look.fence, seconds)


async def forget_settled(db: asyncpg.Pool, source: str) -> int:
    """Those that arrived are forgotten, and those that are too old, of which it is said how many."""
    await db.execute(SQL["forget_arrived"], source)
    gone: int = await db.fetchval(SQL["forget_old"], source)
    return gone


async def due_missed(db: asyncpg.Pool, source: str, *, most_asked: int, most: int) -> list[Missed]:
    """What is to be asked for now, the oldest first."""
    return [Missed(**row) for row in await db.fetch(SQL["due_missed"], source, most_asked, most)]


async def was_asked(db: asyncpg.Pool, missed: Missed, *, seconds: float) -> None:
    """Not again before that."""
    await db.execute(SQL["was_asked"], missed.source, missed.delivery_id, seconds)


async def list_missed(db: asyncpg.Pool, *, most: int) -> list[Missed]:
    """The newest first."""
    return [Missed(**row) for row in await db.fetch(SQL["list_missed"], most)]
