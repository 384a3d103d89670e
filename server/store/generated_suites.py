"""Suites that a model wrote for packages without one, in PostgreSQL."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.jobs import ClaimedJob, SentSuite
from server.store.queries import read_queries

SQL = read_queries("generated_suites")


class JobSuite(NamedTuple):
    """What a job runs: the suite's canonical JSON, and its trials on all models."""

    body: str
    trials: int


async def adopt_suite(db: asyncpg.Pool, job: ClaimedJob) -> JobSuite | None:
    """The suite that was written before for the same files and account, which is the job's from now on."""
    row = await db.fetchrow(SQL["adopt_suite"], job.id, job.fence)
    return JobSuite(row["body"], row["trials_total"]) if row else None


async def keep_suite(db: asyncpg.Pool, job: ClaimedJob, suite: SentSuite, *, model: str) -> bool:
    """Whether the lease is ours, and so the job has this suite or the one that somebody was earlier with.

    Safe to repeat.
    """
    kept = await db.fetchval(SQL["keep_suite"], job.id, job.fence, suite.id, suite.body, suite.trials, model)
    return kept is not None


async def find_suite(db: asyncpg.Pool, account_id: UUID, snapshot_id: str) -> SentSuite | None:
    """What was written for these files and this account."""
    row = await db.fetchrow(SQL["find_suite"], account_id, snapshot_id)
    return SentSuite(id=row["suite_id"], body=row["body"], trials=row["trials"], source="generated") if row else None


async def read_job_suite(db: asyncpg.Pool, job: ClaimedJob) -> JobSuite:
    """What the job runs now."""
    row = await db.fetchrow(SQL["read_job_suite"], job.id)
    return JobSuite(row["body"], row["trials_total"])
