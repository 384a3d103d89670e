"""Trials in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg
import msgspec

from evals.choosing import Measured
from evals.statistics import Counts
from evals.types import Trial
from server.domain.jobs import ClaimedJob
from server.store.queries import read_queries

SQL = read_queries("trials")


async def store_trials(db: asyncpg.Pool, job: ClaimedJob, trials: Sequence[Trial]) -> bool:
    """Whether the lease is ours, and so the trials are kept. Safe to repeat."""
    holder = await db.fetchval(
        SQL["store_trials"],
        job.id,
        job.fence,
        [trial.case_index for trial in trials],
        [trial.model for trial in trials],
        [trial.repeat_index for trial in trials],
        [trial.state for trial in trials],
        [msgspec.json.encode(trial).decode() for trial in trials],
        [trial.score for trial in trials],
    )
    return holder is not None


async def read_trials(db: asyncpg.Pool, job: ClaimedJob) -> list[Trial]:
    """What the job has found so far."""
    rows = await db.fetch(SQL["read_trials"], job.id)
    return [msgspec.json.decode(row["body"], type=Trial) for row in rows]


async def measure_models(db: asyncpg.Pool, job: ClaimedJob) -> list[Measured]:
    """What each model did on the job's suite before, in jobs of the same account and package."""
    rows = await db.fetch(SQL["measure_models"], job.id)
    return [Measured(model=row["model"], counts=Counts(row["passed"], row["failed"]), usd=row["usd"]) for row in rows]
