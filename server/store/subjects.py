"""What a submit would run, read from PostgreSQL."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.packages import PackageRef
from server.store.queries import read_queries

SQL = read_queries("subjects")


class Subject(NamedTuple):
    """A version with its files and the suite that would run, if there is one."""

    package_id: UUID
    name: str
    format: str
    subtype: str
    version: str
    snapshot_id: str
    suite_error: str | None
    archive: bytes
    suite_source: str
    suite_body: str | None


async def read_subject(
    db: asyncpg.Pool, account_id: UUID, ref: PackageRef, *, version: str | None, snapshot_id: str | None
) -> Subject | None:
    """None: there is no such thing that the account may see."""
    row = await db.fetchrow(SQL["read_subject"], account_id, ref.id, ref.name, version, snapshot_id)
    return Subject(**row) if row else None
