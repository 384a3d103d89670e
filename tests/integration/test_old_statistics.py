"""A queue that grew in a moment, before PostgreSQL's statistics know of it: nothing reads all that waits."""

from __future__ import annotations

import asyncpg
import pytest

from server.database import plan_once
from server.store import jobs
from server.store.jobs import SQL
from tests.queue import a_new_job, an_account

# Rows and index entries of the table that this transaction has read so far.
READ = """
SELECT PG_STAT_GET_XACT_TUPLES_RETURNED('test_jobs'::REGCLASS) + (
  SELECT SUM(PG_STAT_GET_XACT_TUPLES_RETURNED(i.indexrelid)) FROM pg_index i WHERE i.indrelid = 'test_jobs'::REGCLASS
)
"""
WAITING = 20_000


@pytest.fixture
async def grown(db: asyncpg.Pool) -> asyncpg.Pool:
    """Twenty thousand jobs wait in a table that PostgreSQL takes for an empty one."""
    await db.execute("ALTER TABLE test_jobs SET (autovacuum_enabled = off); ANALYZE test_jobs")
    account = await an_account(db, tier="enterprise")
    await jobs.submit_jobs(db, [a_new_job(account)])
    columns = await db.fetchval(
        "SELECT STRING_AGG(column_name, ', ') FROM information_schema.columns"
        " WHERE table_name = 'test_jobs' AND column_name NOT IN ('id', 'start_key')"
    )
    await db.execute(
        f"INSERT INTO test_jobs (start_key, {columns})"
        f" SELECT NOW() - n * INTERVAL '1 ms', {columns} FROM test_jobs, GENERATE_SERIES(1, {WAITING}) n"
    )
    return db


async def test_submit__of_a_queue_that_grew_in_a_moment_reads_its_ends_alone(grown: asyncpg.Pool):
    account = await an_account(grown)
    async with grown.acquire() as connection, connection.transaction():
        await plan_once(connection)
        before = await connection.fetchval(READ)

        [kept] = await jobs.submit_jobs(connection, [a_new_job(account)])

        assert kept.position == WAITING + 2
        assert await connection.fetchval(READ) - before < 2_500


async def test_claim__of_a_queue_that_grew_in_a_moment_reads_its_head_alone(grown: asyncpg.Pool):
    async with grown.acquire() as connection, connection.transaction():
        await plan_once(connection)
        before = await connection.fetchval(READ)

        assert await connection.fetchrow(SQL["claim_job"], "w", 60.0, 60.0) is not None

        assert await connection.fetchval(READ) - before < 100
