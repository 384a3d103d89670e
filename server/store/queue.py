"""The queue as a whole in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

import asyncpg

from server.domain.queue import Arrivals, Pace, QueueView, RunningJob, WaitingJob
from server.store.queries import read_queries

SQL = read_queries("queue")

# Behind so many jobs, work counts as a whole: single jobs no longer matter for the wait.
FRONT = 2_000
MOST_RUNNING = 5_000
LATELY_SECONDS = 600.0
MOST_ARRIVALS = 500  # of each state
MOST_ACCOUNTS = 100_000


async def read_queue(db: asyncpg.Pool, *, moment: datetime | None = None) -> QueueView:
    """What waits, what runs, and how fast it goes; at this moment instead of the database's now."""
    async with db.acquire() as connection:
        pace = await connection.fetchrow(SQL["read_pace"], moment)
        front = [WaitingJob(*row) for row in await connection.fetch(SQL["read_front"], FRONT)]
        running = await connection.fetch(SQL["read_running"], MOST_RUNNING)
        arrivals = await connection.fetch(SQL["read_arrivals"], pace["now"], LATELY_SECONDS, MOST_ARRIVALS)
        total = await connection.fetchrow(SQL["count_queue"], MOST_ACCOUNTS) if len(front) == FRONT else None
    return QueueView(
        now=pace["now"],
        pace=Pace(slots=pace["slots"], job_seconds=pace["job_seconds"], trial_seconds=pace["trial_seconds"]),
        front=tuple(front),
        running=tuple(RunningJob(*row) for row in running),
        arrivals=tuple(Arrivals(*row) for row in arrivals),
        jobs_behind=max(total["jobs"] - len(front), 0) if total else 0,
        trials_behind=max(total["trials"] - sum(job.trials for job in front), 0) if total else 0,
        bonus_seconds=dict(zip(pace["tiers"], pace["bonuses"], strict=True)),
    )
