"""Webhooks with a secret of their own, in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
from msgspec import Struct

from server.domain.links import Hook
from server.store.queries import read_queries

SQL = read_queries("hooks")


class NewHook(Struct, frozen=True, kw_only=True):
    """A hook as it is kept."""

    id: UUID
    account_id: UUID
    forge: str
    name: str
    is_group: bool
    place_id: int | None
    owner_id: int | None
    proof: str
    sealed: bytes
    token_shown: str | None
    created_by: str


class Sealed(NamedTuple):
    """What is encrypted, and whose it is."""

    id: UUID
    sealed: bytes


async def add_hook(db: asyncpg.Pool, new: NewHook, *, most: int) -> bool:
    """False when the account has one for it already, or as many as it may have."""
    found = await db.fetchval(
        SQL["add_hook"],
        new.id, new.account_id, new.forge, new.name, new.is_group, new.place_id, new.owner_id, new.proof, new.sealed,
        new.token_shown, new.created_by, most,
    )  # fmt: skip
    return found is not None


async def find_equal_hook(db: asyncpg.Pool, new: NewHook) -> UUID | None:
    found: UUID | None = await db.fetchval(SQL["find_equal_hook"], new.account_id, new.forge, new.name)
    return found


async def read_hook(db: asyncpg.Pool, hook_id: UUID) -> Hook | None:
    """None for one that was removed, too."""
    row = await db.fetchrow(SQL["read_hook"], hook_id)
    return Hook(**row) if row else None


async def list_hooks(db: asyncpg.Pool, account_id: UUID | None) -> list[Hook]:
    """Of the account, or of all."""
    return [Hook(**row) for row in await db.fetch(SQL["list_hooks"], account_id)]


async def bind_hook(db: asyncpg.Pool, hook_id: UUID, place_id: int) -> None:
    """It is for this repository from now on, if it was for none before."""
    await db.execute(SQL["bind_hook"], hook_id, place_id)


async def rename_hook(db: asyncpg.Pool, hook_id: UUID, name: str) -> None:
    await db.execute(SQL["rename_hook"], hook_id, name)


async def rotate_hook(db: asyncpg.Pool, was: Hook, *, sealed: bytes, old_seconds: float) -> datetime | None:
    """Until when the secret before holds; None when the hook was changed or removed meanwhile."""
    until: datetime | None = await db.fetchval(
        SQL["rotate_hook"], was.id, was.account_id, was.sealed, sealed, old_seconds
    )
    return until


async def remove_hook(db: asyncpg.Pool, hook_id: UUID, *, account_id: UUID) -> bool:
    """False when there was none of this account."""
    return await db.fetchval(SQL["remove_hook"], hook_id, account_id) is not None


async def replace_token(db: asyncpg.Pool, was: Hook, *, sealed: bytes, token_shown: str) -> bool:
    """False when the hook was changed or removed meanwhile."""
    found = await db.fetchval(SQL["replace_token"], was.id, was.account_id, was.sealed, sealed, token_shown)
    return found is not None


async def note_refusal(db: asyncpg.Pool, hook_id: UUID, *, doing: str, reason: str) -> None:
    """Its token was refused. Safe to call twice."""
    await db.execute(SQL["note_refusal"], hook_id, doing, reason)


async def end_refusal(db: asyncpg.Pool, hook_id: UUID, *, doing: str) -> None:
    """Its token works. Safe to call twice."""
    await db.execute(SQL["end_refusal"], hook_id, doing)


async def list_hook_links(db: asyncpg.Pool, hook_id: UUID) -> list[int]:
    """Numbers of the repositories that are linked by it."""
    return [row["repository_id"] for row in await db.fetch(SQL["list_hook_links"], hook_id)]


async def note_delivery(db: asyncpg.Pool, hook_id: UUID) -> None:
    """An authentic delivery came just now."""
    await db.execute(SQL["note_delivery"], hook_id)


async def list_sealed(db: asyncpg.Pool) -> list[Sealed]:
    return [Sealed(**row) for row in await db.fetch(SQL["list_sealed"])]


async def replace_sealed(db: asyncpg.Pool, was: Sealed, sealed: bytes) -> bool:
    """False when it was changed or removed meanwhile."""
    return await db.fetchval(SQL["replace_sealed"], was.id, was.sealed, sealed) is not None
