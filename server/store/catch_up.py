"""What was missed in repositories without an App, in PostgreSQL."""

from __future__ import annotations

import asyncpg

from server.domain.links import KeptLink
from server.domain.missed import DueLink
from server.store.queries import read_queries

SQL = read_queries("catch_up")


async def note_open(db: asyncpg.Pool, *, outage_seconds: float) -> bool:
    """Deliveries can be kept now. Whether for so long none could be."""
    return await db.fetchval(SQL["note_open"], outage_seconds) is True


async def due_links(db: asyncpg.Pool, forge: str, *, most: int) -> list[DueLink]:
    """What was not looked at since the last outage, longest ago first."""
    rows = [dict(row) for row in await db.fetch(SQL["due_links"], forge, most)]
    return [DueLink(since=row.pop("since"), link=KeptLink(**row)) for row in rows]


async def was_caught_up(db: asyncpg.Pool, due: DueLink) -> None:
    """Not again before the next outage."""
    await db.execute(SQL["was_caught_up"], due.link.forge, due.link.repository_id)
