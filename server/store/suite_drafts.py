"""What models said to jobs that have no cases yet, in PostgreSQL."""

from __future__ import annotations

import asyncpg
import msgspec
from msgspec import Struct

from evals.types import Completion
from server.domain.jobs import ClaimedJob
from server.store.queries import read_queries

SQL = read_queries("suite_drafts")


class Draft(Struct, frozen=True, kw_only=True):
    """One try. `completion` is None while the model writes, and for good where the worker died meanwhile."""

    number: int  # counted from 1, over all leases of the job
    model: str
    completion: Completion | None


async def begin_draft(db: asyncpg.Pool, job: ClaimedJob, *, number: int, model: str) -> bool:
    """Whether the lease is ours, and so the try is noted. Safe to repeat."""
    return await db.fetchval(SQL["begin_draft"], job.id, job.fence, number, model) is not None


async def keep_draft(db: asyncpg.Pool, job: ClaimedJob, *, number: int, completion: Completion) -> bool:
    """Whether the lease is ours, and so the answer is kept. Safe to repeat."""
    body = msgspec.json.encode(completion).decode()
    return await db.fetchval(SQL["keep_draft"], job.id, job.fence, number, body) is not None


async def read_drafts(db: asyncpg.Pool, job: ClaimedJob) -> list[Draft]:
    """Every try so far, whoever made it, in their order."""
    return [
        Draft(
            number=row["number"],
            model=row["model"],
            completion=msgspec.json.decode(row["completion"], type=Completion) if row["completion"] else None,
        )
        for row in await db.fetch(SQL["read_drafts"], job.id)
    ]
