"""Steps of a set-up in PostgreSQL."""

from __future__ import annotations

import asyncpg

from server.domain.links import StoredApp
from server.store.queries import read_queries

SQL = read_queries("setup")


async def add_ticket(
    db: asyncpg.Pool, *, ticket_hash: str, purpose: str, holder: str, facts: str, seconds: float
) -> None:
    """`facts` is JSON."""
    await db.execute(SQL["add_ticket"], ticket_hash, purpose, holder, facts, seconds)


async def use_ticket(db: asyncpg.Pool, *, ticket_hash: str, purpose: str, holder: str) -> str | None:
    """The ticket's facts in JSON, this once; None for one that is not good here and now."""
    facts: str | None = await db.fetchval(SQL["use_ticket"], ticket_hash, purpose, holder)
    return facts


async def delete_tickets(db: asyncpg.Pool, *, most: int) -> int:
    """How many that have ended are gone."""
    return int((await db.execute(SQL["delete_tickets"], most)).rpartition(" ")[2])


async def save_app(db: asyncpg.Pool, app: StoredApp, *, may_replace: bool) -> bool:
    """False where there is one already."""
    found = await db.fetchval(
        SQL["save_app"], app.forge, app.app_id, app.slug, app.client_id, app.page_url, app.sealed, may_replace
    )
    return found is not None


async def list_apps(db: asyncpg.Pool) -> list[tuple[str, bytes]]:
    """Forges, and what is sealed of their Apps."""
    return [(row["forge"], row["sealed"]) for row in await db.fetch(SQL["list_apps"])]


async def replace_app(db: asyncpg.Pool, forge: str, was: bytes, sealed: bytes) -> bool:
    """False when it was replaced meanwhile."""
    return await db.fetchval(SQL["replace_app"], forge, was, sealed) is not None
