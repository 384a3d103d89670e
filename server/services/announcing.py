"""Tells whoever watches that jobs changed. Best effort: a watcher's own look finds what a lost word leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog

from server.store import news
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

# The first change of a burst is told at once, the rest of it together: each telling is a commit of its own, and
# those of one server come one after the other.
PAUSE_SECONDS = 0.02
MOST_AT_ONCE = 1000


class Announcer:
    """Gathers what changed and tells it from a task of its own, so that no job waits for it."""

    def __init__(self, db: asyncpg.Pool) -> None:
        self._db = db
        self._changed: set[UUID] = set()
        self._news = asyncio.Event()

    def tell(self, job_id: UUID) -> None:
        """The job changed, and that is committed."""
        self._changed.add(job_id)
        self._news.set()

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await self._news.wait()
            await self.flush()
            await asyncio.sleep(PAUSE_SECONDS)

    async def flush(self) -> None:
        """What is known to have changed is told, or given up while the database is away."""
        self._news.clear()
        changed = list(self._changed)
        self._changed.clear()
        for start in range(0, len(changed), MOST_AT_ONCE):
            await announce(self._db, changed[start : start + MOST_AT_ONCE])


async def announce(db: asyncpg.Pool, job_ids: Sequence[UUID]) -> None:
    """Every process that watches these jobs is told. Never raises for a database that is away."""
    try:
        await news.announce_jobs(db, job_ids)
    except DATABASE_TROUBLE as error:
        log.info("change not announced", jobs=len(job_ids), reason=type(error).__name__)
