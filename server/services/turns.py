"""Turns on a line of heads: who looks for the head and submits it is alone with the line meanwhile.

Two handlers that asked the forge at different moments would else submit in any order, and what is submitted later
ends what was submitted before.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import asyncpg

from server.domain.change_heads import ChangeLine
from server.services.handling import TryLater
from server.store import change_heads

# A holder stops well before another one may begin.
TURN_SECONDS: Final = 60.0
HOLD_SECONDS: Final = 40.0
WAIT_SECONDS: Final = 15.0
LOOK_SECONDS: Final = 0.1


@asynccontextmanager
async def turn_on(db: asyncpg.Pool, line: ChangeLine) -> AsyncIterator[None]:
    """Alone with the line until the block ends, and for 40 s at most. Raises TryLater where others take too long."""
    holder = uuid4()
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await change_heads.take_turn(db, line, holder=holder, seconds=TURN_SECONDS):
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise TryLater("Other events of the same change are being handled.", seconds=2.0) from None
    try:
        async with asyncio.timeout(HOLD_SECONDS):
            yield
    finally:
        await asyncio.shield(change_heads.end_turn(db, line, holder=holder))
