"""Deliveries in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

import asyncpg

from server.domain.deliveries import ClaimedDelivery, DeliveryState, Ended, ListedDelivery, Room
from server.store.queries import read_queries

SQL = read_queries("deliveries")


async def keep_delivery(
    db: asyncpg.Pool,
    *,
    source: str,
    hook_id: UUID | None,
    delivery_id: str,
    event: str,
    body: bytes,
    in_seconds: float = 0.0,
    holder: str = "",
) -> bool:
    """Kept, to be handled in so many seconds. False: it was there already, and is not to be acted on again."""
    found = await db.fetchval(SQL["keep_delivery"], source, hook_id, delivery_id, event, body, in_seconds, holder)
    return found is True


async def claim_deliveries(
    db: asyncpg.Pool, *, most: int, lease_seconds: float, room: Room | None = None
) -> list[ClaimedDelivery]:
    """Up to so many deliveries that are due and that there is room for, ours for that time.

    Not always all: where some of one holder's were left, a further claim finds what is behind them.
    """
    room = room or Room()
    rows = await db.fetch(
        SQL["claim_deliveries"], most, lease_seconds, list(room.free), list(room.free.values()), list(room.has),
        list(room.has.values()), room.full_holders, room.full_sources,
    )  # fmt: skip
    return [ClaimedDelivery(**row) for row in rows]


async def end_deliveries(db: asyncpg.Pool, ends: Sequence[tuple[ClaimedDelivery, Ended]]) -> set[int]:
    """The ids of those that were still their handler's to end."""
    rows = await db.fetch(
        SQL["end_deliveries"],
        [one.id for one, _ in ends],
        [one.fence for one, _ in ends],
        [ended.state for _, ended in ends],
        [ended.reason for _, ended in ends],
    )
    return {row["id"] for row in rows}


async def extend_leases(db: asyncpg.Pool, held: Collection[ClaimedDelivery], *, lease_seconds: float) -> set[int]:
    """The ids of those that are still their handler's, for that time from now on."""
    if not held:
        return set()
    ids, fences = [one.id for one in held], [one.fence for one in held]
    return {row["id"] for row in await db.fetch(SQL["extend_leases"], ids, fences, lease_seconds)}


async def release(db: asyncpg.Pool, held: Collection[ClaimedDelivery]) -> None:
    """Others may have them at once."""
    if held:
        await db.execute(SQL["release_deliveries"], [one.id for one in held], [one.fence for one in held])


async def put_off(db: asyncpg.Pool, delivery: ClaimedDelivery, *, seconds: float, reason: str) -> bool:
    """Whether it was still ours to put off."""
    return await db.fetchval(SQL["put_delivery_off"], delivery.id, delivery.fence, seconds, reason) is not None


async def list_deliveries(
    db: asyncpg.Pool, *, state: DeliveryState | None = None, source: str | None = None, most: int
) -> list[ListedDelivery]:
    """The newest first."""
    return [ListedDelivery(**row) for row in await db.fetch(SQL["list_deliveries"], state, source, most)]


async def read_delivery(db: asyncpg.Pool, delivery_id: int) -> ListedDelivery | None:
    """One of them."""
    row = await db.fetchrow(SQL["read_delivery"], delivery_id)
    return ListedDelivery(**row) if row is not None else None


async def read_body(db: asyncpg.Pool, delivery_id: int) -> bytes | None:
    """What came, as it came."""
    body: bytes | None = await db.fetchval(SQL["read_body"], delivery_id)
    return body


async def replay(db: asyncpg.Pool, delivery_id: int) -> bool:
    """Whether there is one that had ended; it is handled again."""
    return await db.fetchval(SQL["replay_delivery"], delivery_id) is not None


async def replay_failed(db: asyncpg.Pool, *, source: str | None = None) -> int:
    """How many had failed; they are handled again."""
    count: int = await db.fetchval(SQL["replay_failed"], source)
    return count
