"""D7: slow transactions take every connection, and whoever comes is refused soon instead of hanging."""

from __future__ import annotations

import asyncio
import time

import asyncpg

from server.api.errors import DATABASE_AWAY
from server.database import connect_database
from server.store.jobs import SQL


async def test_pool__D7_a_hundred_requests_behind_a_lock_are_refused_and_the_next_one_is_served(
    db: asyncpg.Pool, dsn: str
):
    pool = await connect_database(dsn, most_connections=5, connection_seconds=0.4, lock_seconds=0.3)
    began = time.monotonic()
    async with db.acquire() as slow, slow.transaction():
        await slow.execute("LOCK TABLE test_jobs IN ACCESS EXCLUSIVE MODE")

        answers = await asyncio.gather(
            *(pool.fetch(SQL["list_cancelled"], []) for _ in range(100)), return_exceptions=True
        )

    assert time.monotonic() - began < 5
    # What the API answers with 503 and Retry-After.
    assert {isinstance(answer, DATABASE_AWAY) for answer in answers} == {True}
    assert {type(answer) for answer in answers} == {TimeoutError, asyncpg.LockNotAvailableError}
    assert await pool.fetch(SQL["list_cancelled"], []) == []
    await pool.close()
