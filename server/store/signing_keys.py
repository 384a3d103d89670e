"""Public keys of this service in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import asyncpg

from server.store.queries import read_queries

SQL = read_queries("signing_keys")


class PublicKey(NamedTuple):
    """64 hex digits, and since when outcomes may have been signed with it."""

    key: str
    since: datetime


async def note_key(db: asyncpg.Pool, public_key: str) -> None:
    """The key is known, and the one that was used last."""
    await db.execute(SQL["note_key"], public_key)


async def list_keys(db: asyncpg.Pool) -> list[PublicKey]:
    """Every key, the one in use first."""
    return [PublicKey(row["public_key"], row["since"]) for row in await db.fetch(SQL["list_keys"])]
