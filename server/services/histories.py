"""A package's history in an account: what each finished job found, a page at a time."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.accounts import Caller
from server.domain.baselines import HistoryEntry
from server.domain.errors import InvalidRequest
from server.domain.packages import PackageRef
from server.services.reading import no_package
from server.store import history, packages

LONGEST_BRANCH = 255


class HistoryPage(NamedTuple):
    """`cursor` asks for the next page; None on the last one."""

    package: str
    entries: list[HistoryEntry]
    cursor: str | None


async def list_history(
    db: asyncpg.Pool, caller: Caller, ref: PackageRef, *, branch: str | None, cursor: str | None, limit: int
) -> HistoryPage:
    """The caller's own, newest first. Raises NotFound for a package without history that the caller does not see.

    Raises InvalidRequest for a branch or cursor that cannot be.
    """
    if branch is not None and (not 0 < len(branch) <= LONGEST_BRANCH or not branch.isprintable()):
        raise InvalidRequest("branch: must be a branch's name, as `main`.")
    after = _read_cursor(cursor) if cursor is not None else None
    package = await packages.read_package(db, ref, seen_by=caller.id)
    name = package.name if package is not None else ref.name
    if name is None:
        raise no_package()
    # One more than asked for tells whether there is a next page.
    found = await history.list_history(db, name, account_id=caller.id, branch=branch, after=after, limit=limit + 1)
    if package is None and not found and branch is None and after is None:
        raise no_package()
    more = len(found) > limit
    return HistoryPage(name, found[:limit], _write_cursor(found[limit - 1]) if more else None)


def _write_cursor(entry: HistoryEntry) -> str:
    return base64.urlsafe_b64encode(f"{entry.ended_at.isoformat()} {entry.job_id}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[datetime, UUID]:
    try:
        ended_at, job_id = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode().split(" ")
        place = (datetime.fromisoformat(ended_at), UUID(job_id))
    except (ValueError, binascii.Error):
        place = None
    if place is None or place[0].tzinfo is None:
        raise InvalidRequest("cursor: not one that this list answered.")
    return place
