"""How a command reaches the database: PRPM_DATABASE_URL, else that of `prpm-testing up` in its data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from server.database import connect_database
from server.domain.errors import ServiceError
from server.operator.errors import OperatorError
from server.settings import Settings, read_settings

Answer = TypeVar("Answer")


def with_database(act: Callable[[asyncpg.Pool, Settings], Awaitable[Answer]]) -> Answer:
    """What `act` answers; what the service refuses is told in a sentence."""
    settings = read_settings()

    async def run() -> Answer:
        db = await connect_database(_address(settings), most_connections=2)
        try:
            return await act(db, settings)
        finally:
            await db.close()

    try:
        return asyncio.run(run())
    except ServiceError as error:
        raise OperatorError(error.message) from None
    except (OSError, asyncpg.PostgresError, TimeoutError):
        raise OperatorError(
            "The database cannot be reached. Start it with `prpm-testing up`, or set PRPM_DATABASE_URL."
        ) from None


def _address(settings: Settings) -> str:
    if settings.database_url is not None:
        return settings.database_url.reveal()
    from server.operator.stack import running_database_url

    url = running_database_url(settings.data_dir)
    if url is None:
        raise OperatorError(
            "Nothing runs here. Start it with `prpm-testing up`, name the data folder of one that runs in "
            "PRPM_DATA_DIR, or set PRPM_DATABASE_URL."
        )
    return url
