"""What changed about jobs, as PostgreSQL knows and tells it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg

from server.domain.news import Mark, TrialNews
from server.store.queries import read_queries

SQL = read_queries("news")

CHANNEL = "job_news"  # as in news.sql; a notification's payload is one job's id


async def announce_jobs(db: asyncpg.Pool, job_ids: Sequence[UUID]) -> None:
    """Every listener is told that these jobs changed."""
    await db.execute(SQL["announce_jobs"], job_ids)


async def ping(connection: asyncpg.Connection, *, seconds: float) -> None:
    """The connection answers. Raises what asyncpg does, or TimeoutError, when it does not."""
    await connection.fetchval(SQL["ping"], timeout=seconds)


async def list_marks(db: asyncpg.Pool, job_ids: Sequence[UUID]) -> dict[UUID, Mark]:
    """Job id -> mark, for jobs that exist."""
    rows = await db.fetch(SQL["list_marks"], job_ids)
    return {row["id"]: Mark(row["status"], row["fence"] or 0, row["seq"] or 0) for row in rows}


async def list_trial_news(db: asyncpg.Pool, known: Mapping[UUID, int]) -> dict[UUID, list[TrialNews]]:
    """Trials behind each job's known place (-1: all), by job id, in the order in which they were kept."""
    rows = await db.fetch(SQL["list_trial_news"], list(known), list(known.values()))
    found: dict[UUID, list[TrialNews]] = {}
    for row in rows:
        found.setdefault(row["job_id"], []).append(
            TrialNews(
                seq=row["seq"],
                case_index=row["case_index"],
                model=row["model"],
                repeat_index=row["repeat_index"],
                state=row["state"],
                score=row["score"],
            )
        )
    return found


async def list_suite_bodies(db: asyncpg.Pool, job_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Job id -> its suite as canonical JSON."""
    return {row["id"]: row["body"] for row in await db.fetch(SQL["list_suite_bodies"], job_ids)}
