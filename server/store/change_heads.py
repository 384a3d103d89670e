"""Heads of changes in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.change_heads import ChangeLine
from server.store.queries import read_queries

SQL = read_queries("change_heads")


async def record_head(
    db: asyncpg.Pool,
    line: ChangeLine,
    head_sha: str,
    *,
    made_at: datetime | None,
    shown_at: datetime | None = None,
    base_sha: str | None = None,
) -> bool:
    """The line's head now, since `made_at` by the forge's clock. Approvals of its other heads are over.

    `shown_at`: the forge's own time of the word that says so, where it is of this very moment. True for a head that
    nobody told of before.
    """
    return await db.fetchval(SQL["record_head"], *line, head_sha, made_at, shown_at, base_sha) is True


async def was_replaced(db: asyncpg.Pool, line: ChangeLine, head_sha: str, *, at: datetime, seen_seconds: float) -> bool:
    """Whether the line was shown with another head after it was shown with this one, `at` by the forge's clock.

    False as well where nobody looked at the line for so many seconds: then it is time for a look.
    """
    return await db.fetchval(SQL["was_replaced"], *line, head_sha, at, seen_seconds) is True


async def approve_head(
    db: asyncpg.Pool, line: ChangeLine, head_sha: str, *, approval: str, approved_by: str, said_at: datetime
) -> str | None:
    """What approved the head, now or earlier; None where the head is newer than the word, or not known."""
    found: str | None = await db.fetchval(SQL["approve_head"], *line, head_sha, approval, approved_by, said_at)
    return found


async def end_approvals(db: asyncpg.Pool, line: ChangeLine) -> None:
    """No head of the line is approved any more."""
    await db.execute(SQL["end_approvals"], *line)


async def read_approval(db: asyncpg.Pool, line: ChangeLine, head_sha: str) -> str | None:
    """What approved exactly this head."""
    found: str | None = await db.fetchval(SQL["read_approval"], *line, head_sha)
    return found


async def read_base(db: asyncpg.Pool, line: ChangeLine, head_sha: str) -> str | None:
    """What the head was compared with when it came; None for nothing, and where nobody knows."""
    found: str | None = await db.fetchval(SQL["read_base"], *line, head_sha)
    return found


async def lines_of_commit(db: asyncpg.Pool, *, forge: str, repository_id: int, head_sha: str) -> list[ChangeLine]:
    """The lines that the commit is or was a head of, the latest first."""
    rows = await db.fetch(SQL["lines_of_commit"], forge, repository_id, head_sha)
    return [ChangeLine(forge, repository_id, row["line"]) for row in rows]


async def take_turn(db: asyncpg.Pool, line: ChangeLine, *, holder: UUID, seconds: float) -> bool:
    """Whether the line is ours for so long."""
    return await db.fetchval(SQL["take_turn"], *line, holder, seconds) is not None


async def end_turn(db: asyncpg.Pool, line: ChangeLine, *, holder: UUID) -> None:
    await db.execute(SQL["end_turn"], *line, holder)


class Tested(NamedTuple):
    """What a job tested."""

    package: str
    suite_name: str


async def read_tested(
    db: asyncpg.Pool, job_id: UUID, *, account_id: UUID, forge: str, repository_id: int, head_sha: str
) -> Tested | None:
    """What the account's job of this commit tested; None for any other job."""
    row = await db.fetchrow(SQL["read_tested"], account_id, job_id, forge, repository_id, head_sha)
    return Tested(**row) if row else None


async def has_job(db: asyncpg.Pool, *, account_id: UUID, forge: str, repository_id: int, head_sha: str) -> bool:
    """Whether the account tested the commit lately, or does so."""
    found: bool = await db.fetchval(SQL["has_job"], account_id, forge, repository_id, head_sha)
    return found


async def was_submitted_here(db: asyncpg.Pool, job_id: UUID) -> bool:
    """Whether the service itself submitted the job, and not somebody with a token."""
    return await db.fetchval(SQL["was_submitted_here"], job_id) is True


async def list_live_jobs(
    db: asyncpg.Pool, *, account_id: UUID, forge: str, repository_id: int, pull_request: int, until: datetime | None
) -> list[UUID]:
    """The account's jobs of a pull request that wait or run, of those that were submitted until then (None: all)."""
    rows = await db.fetch(SQL["list_live_jobs"], account_id, forge, repository_id, pull_request, until)
    return [row["id"] for row in rows]
