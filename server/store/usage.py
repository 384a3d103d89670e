"""The usage ledger in PostgreSQL."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import asyncpg
import msgspec

from server.domain.ledger import LedgerEntry, LedgerPage, LedgerTotals
from server.store.queries import read_queries

SQL = read_queries("usage")


async def read_ledger(
    db: asyncpg.Pool, account_id: UUID, *, month: date | None, before: int | None, most: int
) -> LedgerPage:
    """At most `most` entries of the month (None: the current one) that are older than the entry `before`.

    One snapshot for entries and totals, so that the two agree while jobs come in.
    """
    async with db.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        totals = await connection.fetchrow(SQL["read_ledger_totals"], account_id, month)
        # One more than asked for says whether there is a next page.
        rows = await connection.fetch(SQL["list_ledger"], account_id, totals["month"], before, most + 1)
    return LedgerPage(
        month=totals["month"],
        entries=[msgspec.convert(dict(row) | {"cost_usd": float(row["cost_usd"])}, LedgerEntry) for row in rows[:most]],
        totals=LedgerTotals(
            charges=totals["charges"],
            refunds=totals["refunds"],
            cached=totals["cached"],
            runs=totals["runs"],
            cost_usd=float(totals["cost_usd"]),
        ),
        has_more=len(rows) > most,
    )
