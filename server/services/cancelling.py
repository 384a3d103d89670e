"""A job that nobody wants any more: a waiting one ends at once, a running one within two seconds."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from server.domain.accounts import Caller
from server.domain.errors import Conflict
from server.domain.jobs import JobView
from server.services.announcing import announce
from server.services.reading import read_job
from server.services.running import CANCELLED
from server.store import jobs

# Between our look and our write a worker may take the job, or give it back.
TRIES = 5


async def cancel(db: asyncpg.Pool, caller: Caller, job_id: UUID) -> JobView:
    """The job, ended or about to be. Safe to call twice. Raises NotFound, or Conflict for one that has ended by itself.

    A job that never started is given back; what a running one has found stays, and counts.
    """
    for _ in range(TRIES):
        cancelled = await jobs.cancel_job(
            db,
            job_id,
            seen_by=caller.sees,
            code=CANCELLED,
            message="Cancelled before it started. The run was given back.",
        )
        job = await read_job(db, caller, job_id)
        if cancelled or job.error_code == CANCELLED:
            await announce(db, [job_id])
            return job
        if job.status in ("completed", "failed"):
            break
    raise Conflict(f"This job is {job.status} already.", code="job_finished")
