"""Organisations in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.organizations import KeptToken, KnownOrganization, Member, Membership
from server.store.queries import read_queries

SQL = read_queries("organizations")


class Standing(NamedTuple):
    """How things stand, with the organisation locked. None: there is no such organisation, person or role."""

    org_id: UUID | None
    person_id: UUID | None
    role: str | None  # of the person
    asker_role: str | None
    owners: int


async def change_member(
    db: asyncpg.Pool,
    organization: str,
    username: str,
    *,
    role: str | None,
    asker_id: UUID | None,
    check: Callable[[Standing], None],
) -> datetime | None:
    """Give a person this role, or none. `check` raises for what may not be; nothing is changed then.

    Changes of one organisation come one after the other, so that what was checked holds. Returns when they joined.
    """
    async with db.acquire() as connection, connection.transaction():
        org_id = await connection.fetchval(SQL["lock_organization"], organization)
        person = await connection.fetchrow(SQL["read_member"], org_id, username) if org_id else None
        standing = Standing(
            org_id=org_id,
            person_id=person["id"] if person else None,
            role=person["role"] if person else None,
            asker_role=await connection.fetchval(SQL["read_role"], org_id, asker_id),
            owners=await connection.fetchval(SQL["count_owners"], org_id),
        )
        check(standing)
        if role is None:
            await connection.execute(SQL["remove_member"], org_id, standing.person_id)
            return None
        joined_at: datetime = await connection.fetchval(SQL["set_role"], org_id, standing.person_id, role)
        return joined_at


async def list_members(db: asyncpg.Pool, org_id: UUID) -> list[Member]:
    return [Member(**row) for row in await db.fetch(SQL["list_members"], org_id)]


async def list_organizations(db: asyncpg.Pool, account_id: UUID) -> list[Membership]:
    """Those that a person is a member of."""
    return [
        Membership(id=row["id"], username=row["username"], tier=row["subscription_tier"], role=row["role"])
        for row in await db.fetch(SQL["list_organizations"], account_id)
    ]


async def list_all_organizations(db: asyncpg.Pool) -> list[KnownOrganization]:
    return [
        KnownOrganization(id=row["id"], username=row["username"], tier=row["subscription_tier"], members=row["members"])
        for row in await db.fetch(SQL["list_all_organizations"])
    ]


async def list_tokens(db: asyncpg.Pool, account_id: UUID) -> list[KeptToken]:
    return [KeptToken(**row) for row in await db.fetch(SQL["list_tokens"], account_id)]


async def revoke_token(db: asyncpg.Pool, account_id: UUID, token_id: UUID) -> bool:
    """Whether the account had such a live token."""
    return await db.fetchval(SQL["revoke_account_token"], account_id, token_id) is not None
