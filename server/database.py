"""Connections to PostgreSQL, made by the roots alone."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog
from asyncpg.pool import PoolAcquireContext

from server.settings import Settings
from server.store.migrations import is_current

log = structlog.get_logger()


# Ten thousand requests at once are through in less; clients and load balancers give up after 30 s or later.
CONNECTION_SECONDS = 15.0
LOCK_SECONDS = 5.0


class BoundedPool(asyncpg.Pool):  # type: ignore[misc]  # asyncpg tells no types
    """Waits for a free connection so long and no longer: a full pool must not turn requests into hanging ones (D7)."""

    patience_seconds = CONNECTION_SECONDS

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """As asyncpg's. Raises TimeoutError."""
        return super().acquire(timeout=self.patience_seconds if timeout is None else timeout)


async def connect_database(
    dsn: str,
    *,
    most_connections: int,
    connection_seconds: float = CONNECTION_SECONDS,
    lock_seconds: float = LOCK_SECONDS,
) -> asyncpg.Pool:
    """A pool that connects at first use, so that a process can start before its database.

    `connection_seconds` bound the wait for a free connection, `lock_seconds` that for each lock.
    """

    async def prepare(connection: asyncpg.Connection) -> None:
        await plan_once(connection)
        await connection.execute(f"SET lock_timeout = {round(lock_seconds * 1000)}")

    pool = BoundedPool(
        dsn,
        min_size=0,
        max_size=most_connections,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        timeout=5,
        command_timeout=30,
        server_settings={"application_name": "prpm-testing"},
        connect=None,
        setup=None,
        init=prepare,
        reset=keep_session,
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
    )
    pool.patience_seconds = connection_seconds
    return await pool


async def connect_directly(settings: Settings) -> asyncpg.Connection:
    """A connection past any pooler, for what lives in a session: LISTEN. Raises what asyncpg does."""
    dsn = settings.database_direct_url.reveal() if settings.database_direct_url else settings.require_database()
    return await asyncpg.connect(
        dsn, timeout=5, command_timeout=30, server_settings={"application_name": "prpm-testing listener"}
    )


async def plan_once(connection: asyncpg.Connection) -> None:
    """Plan each prepared statement once: ours depend on no value, and planning costs more than most of them take.

    Not a start-up setting, as poolers refuse those.
    """
    await connection.execute("SET plan_cache_mode = force_generic_plan")


async def keep_session(connection: asyncpg.Connection) -> None:
    """Send nothing when a connection goes back to the pool; open transactions are rolled back all the same.

    asyncpg's own reset is a second round trip for every statement, and undoes what nobody here does on a pooled
    connection: session settings, LISTEN, advisory locks and cursors that outlive a transaction.
    """


async def wait_for_schema(db: asyncpg.Pool) -> None:
    """Return once the database is there and migrated. Whoever deploys may start everything at once."""
    told = False
    while True:
        try:
            async with db.acquire() as connection:
                if await is_current(connection):
                    return
        except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
            pass
        if not told:
            log.info("waiting for the database", advice="`prpm-testing migrate` brings its schema up to date")
            told = True
        await asyncio.sleep(0.03)
