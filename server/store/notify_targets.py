"""Targets of notifications in PostgreSQL."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from msgspec import Struct

from server.domain.notifications import LastNotification, Target, TargetMode
from server.store.queries import read_queries

SQL = read_queries("notify_targets")


class NewTarget(Struct, frozen=True, kw_only=True):
    """A target as it is kept."""

    id: UUID
    account_id: UUID
    kind: str
    package_glob: str
    mode: TargetMode
    sealed: bytes
    address_mac: bytes
    shown: str


class Sealed(Struct, frozen=True, kw_only=True):
    """What is encrypted, and whose it is."""

    id: UUID
    account_id: UUID
    kind: str
    sealed: bytes


async def add_target(db: asyncpg.Pool, new: NewTarget, *, most: int) -> Target | None:
    """None when the account has it already, or as many as it may have."""
    row = await db.fetchrow(
        SQL["add_target"],
        new.id, new.account_id, new.kind, new.package_glob, new.mode, new.sealed, new.address_mac, new.shown, most,
    )  # fmt: skip
    return _target(row) if row else None


async def find_equal_target(db: asyncpg.Pool, new: NewTarget) -> UUID | None:
    found: UUID | None = await db.fetchval(
        SQL["find_equal_target"], new.account_id, new.kind, new.package_glob, new.address_mac
    )
    return found


async def list_targets(db: asyncpg.Pool, account_id: UUID) -> list[Target]:
    """Oldest first, each with its last notification."""
    return [_target(row) for row in await db.fetch(SQL["list_targets"], account_id)]


async def read_own_target(db: asyncpg.Pool, target_id: UUID, *, account_id: UUID) -> Target | None:
    row = await db.fetchrow(SQL["read_own_target"], target_id, account_id)
    return _target(row) if row else None


async def remove_target(db: asyncpg.Pool, target_id: UUID, *, account_id: UUID) -> bool:
    """False when there was none of this account."""
    return await db.fetchval(SQL["remove_target"], target_id, account_id) is not None


async def resume_target(db: asyncpg.Pool, target_id: UUID, *, account_id: UUID) -> Target | None:
    row = await db.fetchrow(SQL["resume_target"], target_id, account_id)
    return _target(row) if row else None


async def list_sealed(db: asyncpg.Pool) -> list[Sealed]:
    return [Sealed(**dict(row)) for row in await db.fetch(SQL["list_sealed"])]


async def replace_sealed(db: asyncpg.Pool, was: Sealed, *, sealed: bytes, address_mac: bytes) -> bool:
    """False when it was changed or removed meanwhile."""
    return await db.fetchval(SQL["replace_sealed"], was.id, was.sealed, sealed, address_mac) is not None


async def report_in_repository(db: asyncpg.Pool, *, forge: str, repository_id: int, account_id: UUID) -> bool:
    """False when the repository is another account's."""
    return await db.fetchval(SQL["report_in_repository"], forge, repository_id, account_id) is not None


async def leave_repository(db: asyncpg.Pool, *, forge: str, repository_id: int, account_id: UUID) -> bool:
    """False when the service did not report there for this account."""
    return await db.fetchval(SQL["leave_repository"], forge, repository_id, account_id) is not None


def _target(row: asyncpg.Record) -> Target:
    last = None
    if row.get("last_state") is not None:
        last = LastNotification(
            state=row["last_state"], attempts=row["last_attempts"], reason=row["last_error"], at=row["last_at"]
        )
    return Target(
        id=row["id"],
        kind=row["kind"],
        package_glob=row["package_glob"],
        mode=row["mode"],
        shown=row["shown"],
        created_at=row["created_at"],
        stopped_at=row["stopped_at"],
        stopped_reason=row["stopped_reason"],
        last=last,
    )
