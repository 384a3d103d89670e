"""Kept completions in PostgreSQL."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec
from msgspec import Struct

from evals.types import Completion
from server.store.queries import read_queries

SQL = read_queries("completions")


class KeptCompletion(Struct, frozen=True, kw_only=True):
    """An answer that was kept. `is_good`: it is young enough, and its deployment is still what it was."""

    completion: Completion
    version: str
    current_version: str
    created_at: datetime
    is_good: bool


class NewCompletion(Struct, frozen=True, kw_only=True):
    """An answer to keep."""

    key: bytes
    deployment: str  # fingerprint
    completion: Completion


async def find_completions(
    db: asyncpg.Pool, keys: Collection[bytes], *, account_id: UUID, is_public: bool, days: int
) -> dict[bytes, KeptCompletion]:
    """The best of what is kept under each key for this account. Keys under which nothing is kept are left out."""
    rows = await db.fetch(SQL["find_completions"], list(keys), account_id, is_public, days)
    return {
        row["key"]: KeptCompletion(
            completion=msgspec.json.decode(row["body"], type=Completion),
            version=row["version"],
            current_version=row["current_version"],
            created_at=row["created_at"],
            is_good=row["is_good"],
        )
        for row in rows
    }


async def store_completions(
    db: asyncpg.Pool, answers: Sequence[NewCompletion], *, account_id: UUID, is_public: bool
) -> None:
    """Keep these answers. Safe to repeat."""
    each_once = {answer.key: answer for answer in answers}
    rows = [each_once[key] for key in sorted(each_once)]
    await db.execute(
        SQL["store_completions"],
        account_id,
        is_public,
        [row.key for row in rows],
        [row.deployment for row in rows],
        [row.completion.answered_by for row in rows],
        [msgspec.json.encode(row.completion).decode() for row in rows],
    )


async def note_version(db: asyncpg.Pool, deployment: str, version: str) -> None:
    """Say what a deployment says that it is. Safe to repeat."""
    await db.execute(SQL["note_version"], deployment, version)
