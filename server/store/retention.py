"""What is removed from PostgreSQL once it is too old: one bounded batch a call."""

from __future__ import annotations

import asyncpg

from server.store.queries import read_queries

SQL = read_queries("retention")


async def take_turn(db: asyncpg.Pool, chore: str, *, every_seconds: float) -> bool:
    """Whether the chore is due and now ours; nobody else gets it for `every_seconds`."""
    return await db.fetchval(SQL["take_turn"], chore, every_seconds) is not None


async def delete_trials(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_trials"], days, most))


async def delete_outcomes(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_outcomes"], days, most))


async def delete_change_heads(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_change_heads"], days, most))


async def delete_change_turns(db: asyncpg.Pool, *, most: int) -> int:
    return int(await db.fetchval(SQL["delete_change_turns"], most))


async def delete_deliveries(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_deliveries"], days, most))


async def delete_completions(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_completions"], days, most))


async def delete_cached_outcomes(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_cached_outcomes"], days, most))


async def delete_idempotency_keys(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_idempotency_keys"], days, most))


async def delete_events(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_events"], days, most))


async def delete_history(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_history"], days, most))


async def delete_base_trials(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_base_trials"], days, most))


async def delete_body_hashes(db: asyncpg.Pool, *, most: int) -> int:
    return int(await db.fetchval(SQL["delete_body_hashes"], most))


async def delete_notifications(db: asyncpg.Pool, *, days: int, most: int) -> int:
    return int(await db.fetchval(SQL["delete_notifications"], days, most))


async def delete_sessions(db: asyncpg.Pool, *, most: int) -> int:
    return int(await db.fetchval(SQL["delete_sessions"], most))


async def delete_oidc_exchanges(db: asyncpg.Pool, *, most: int) -> int:
    return int(await db.fetchval(SQL["delete_oidc_exchanges"], most))


async def delete_uploads(db: asyncpg.Pool, *, days: int, most: int) -> int:
    """How many uploaded folders went, each with its files, suite and package as far as nothing else needs them.

    Files that only old jobs refer to are emptied: their row stays for the jobs.
    """
    async with db.acquire() as connection, connection.transaction():
        gone = await connection.fetch(SQL["delete_uploads"], days, most)
        snapshots = sorted({row["snapshot_id"] for row in gone})
        suites = sorted({row["suite_id"] for row in gone if row["suite_id"] is not None})
        await connection.execute(SQL["delete_snapshots"], snapshots, days)
        await connection.execute(SQL["empty_snapshots"], snapshots, days)
        await connection.execute(SQL["delete_suites"], suites, days)
        await connection.execute(SQL["delete_packages"], sorted({row["package_id"] for row in gone}), days)
        return len(gone)
