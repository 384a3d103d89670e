"""The money of jobs and months in PostgreSQL."""

from __future__ import annotations

import asyncpg

from server.domain.jobs import ClaimedJob
from server.domain.money import MoneyHeld, MoneyWish, booked_usd, nano_usd, reserved_usd
from server.store.queries import read_queries

SQL = read_queries("money")


async def settle_money(db: asyncpg.Pool, job: ClaimedJob, wish: MoneyWish) -> MoneyHeld | None:
    """What the job has spent is booked, and it holds what the month lets it. None: the lease is not ours.

    Safe to repeat after a lost answer: `wish` says what is, not what is new.
    """
    row = await db.fetchrow(
        SQL["settle_money"],
        job.id, job.fence, booked_usd(wish.spent),
        *map(reserved_usd, (wish.reserved, wish.needed, wish.wanted)),
    )  # fmt: skip
    if row is None:
        return None
    return MoneyHeld(held=nano_usd(row["held_usd"]), is_granted=row["is_granted"], others_hold=row["others_hold"])
