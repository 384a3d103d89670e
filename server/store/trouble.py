"""What every statement may raise while the database is away or goes."""

from __future__ import annotations

import asyncpg

# InternalClientError: what asyncpg raises when the server goes in the middle of an answer.
DATABASE_TROUBLE = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
