"""When deliveries could be kept: each API process says so, and a gap is when they were missed."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from server.store import catch_up
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

NOTE_SECONDS = 3.0
# A gap from which on deliveries were missed: where a process has just started or PostgreSQL was away, no other process
# noted for that long; else whatever held this one up, such as a machine that was asleep, kept others from it as well.
OUTAGE_SECONDS, STALL_SECONDS = 8.0, 60.0


async def watch_door(db: asyncpg.Pool) -> None:
    """Note that deliveries can be kept, again and again, until cancelled. While PostgreSQL is away they cannot."""
    gap_seconds = OUTAGE_SECONDS
    while True:
        try:
            if await catch_up.note_open(db, outage_seconds=gap_seconds):
                log.info("deliveries can be kept again")
            gap_seconds = STALL_SECONDS
        except DATABASE_TROUBLE as error:
            log.warning("deliveries cannot be kept", reason=type(error).__name__)
            gap_seconds = OUTAGE_SECONDS
        await asyncio.sleep(NOTE_SECONDS)
