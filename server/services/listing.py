"""An account's jobs, a page at a time. A page's cursor names its last job, so that new ones shift nothing."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.accounts import Caller
from server.domain.errors import InvalidRequest
from server.domain.jobs import JobPlace, ListedJob
from server.store import jobs

STATUSES = ("queued", "running", "completed", "failed")


class JobPage(NamedTuple):
    """`cursor` asks for the next page; None on the last one."""

    jobs: list[ListedJob]
    cursor: str | None


async def list_jobs(
    db: asyncpg.Pool, caller: Caller, *, status: str | None, package: str | None, cursor: str | None, limit: int
) -> JobPage:
    """The caller's jobs, newest first. Raises InvalidRequest for a status or cursor that cannot be."""
    if status is not None and status not in STATUSES:
        raise InvalidRequest(f"status: must be one of {', '.join(STATUSES)}.")
    after = read_cursor(cursor) if cursor is not None else None
    # One more than asked for tells whether there is a next page.
    found = await jobs.list_jobs(db, caller.id, status=status, package=package, after=after, limit=limit + 1)
    more = len(found) > limit
    return JobPage(found[:limit], write_cursor(found[limit - 1]) if more else None)


def write_cursor(job: ListedJob) -> str:
    """The place behind this job, as a word for addresses."""
    return base64.urlsafe_b64encode(f"{job.created_at.isoformat()} {job.id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> JobPlace:
    """The place that a cursor names. Raises InvalidRequest."""
    try:
        created_at, job_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ")
        place = JobPlace(datetime.fromisoformat(created_at), UUID(job_id))
    except (ValueError, binascii.Error):
        place = None
    if place is None or place.created_at.tzinfo is None:
        raise InvalidRequest("cursor: not one that this list answered.")
    return place
