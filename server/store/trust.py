"""Trusted repositories in PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.trust import NewTrust, Trust
from server.store.queries import read_queries

SQL = read_queries("trust")


class Found(NamedTuple):
    """`now` is the database's time, in seconds since 1970."""

    now: float
    trust: Trust | None


async def add_trust(db: asyncpg.Pool | asyncpg.Connection, new: NewTrust) -> Trust | None:
    """The new trust; None when the repository is an account's already, or there is no such account."""
    row = await db.fetchrow(
        SQL["add_trust"],
        new.account, new.issuer, new.forge, new.repository_id, new.owner_id, new.repository, new.workflow, new.events,
        new.scopes, new.proof,
    )  # fmt: skip
    return Trust(**row, account=new.account) if row else None


async def is_linked_elsewhere(db: asyncpg.Pool, new: NewTrust) -> bool:
    """Whether deliveries of the repository are another account's."""
    found: bool = await db.fetchval(SQL["is_linked_elsewhere"], new.forge, new.repository_id, new.account, new.owner_id)
    return found


async def prove_trust(db: asyncpg.Pool, new: NewTrust, *, replace: bool) -> Trust | None:
    """The new trust in place of an outdated one, or of any with `replace`; None, with nothing changed, when the
    repository is another account's."""
    async with db.acquire() as connection, connection.transaction():
        await connection.fetch(
            SQL["remove_outdated_trust"], new.issuer, new.repository_id, new.owner_id, new.account, replace
        )
        return await add_trust(connection, new)


async def read_trust(db: asyncpg.Pool, issuer: str, repository_id: int) -> Found:
    """Whose the repository is, and the time."""
    row = await db.fetchrow(SQL["read_trust"], issuer, repository_id)
    fields = dict(row)
    now = fields.pop("now")
    return Found(now, Trust(**fields) if fields["id"] is not None else None)


async def list_trusts(db: asyncpg.Pool, account_id: UUID | None) -> list[Trust]:
    """Of the account, or of all."""
    return [Trust(**row) for row in await db.fetch(SQL["list_trusts"], account_id)]


async def remove_trust(db: asyncpg.Pool, trust_id: UUID, *, account_id: UUID | None) -> bool:
    """Whether there was one, of this account if one is named."""
    return await db.fetchval(SQL["remove_trust"], trust_id, account_id) is not None


async def exchange_token(
    db: asyncpg.Pool,
    trust: Trust,
    *,
    jti: str,
    ends_at: float,
    token_hash: str,
    name: str,
    seconds: float,
    repository: str,
    ref: str,
) -> datetime | None:
    """When the new token ends; None when the workflow's was used before. `ends_at`: seconds since 1970."""
    ended: datetime | None = await db.fetchval(
        SQL["exchange_token"], trust.issuer, jti, ends_at, trust.id, token_hash, name, seconds, repository, ref
    )
    return ended
