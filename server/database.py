"""Connections to PostgreSQL, made by the roots alone."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from server.settings import Settings
from server.store.migrations import is_current

log = structlog.get_logger()


async def connect_database(dsn: str, *, most_connections: int) -> asyncpg.Pool:
    """A pool that connects at first use, so that a process can start before its database."""
    return await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=most_connections,
        timeout=5,
        command_timeout=30,
        server_settings={"application_name": "prpm-testing"},
        init=plan_once,
        reset=keep_session,
    )


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
