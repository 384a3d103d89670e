"""Organisations of tests: people with roles in them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import asyncpg

from server.services.accounts import set_caps
from server.services.organizations import create_organization, set_role
from tests.service import Account, Service, in_loop


@dataclass(frozen=True, kw_only=True)
class Organization:
    """An organisation on a running service, and one person for each role."""

    name: str
    id: uuid.UUID
    owner: Account
    admin: Account
    maintainer: Account
    member: Account

    def person(self, role: str) -> Account:
        return getattr(self, role)


def an_organization(service: Service, *, tier: str = "plus", money_usd: float | None = 1000) -> Organization:
    """On this tier, with four people who could not run anything by themselves."""
    name = f"org-{uuid.uuid4().hex[:10]}"
    people = {role: service.an_account(tier="free") for role in ("owner", "admin", "maintainer", "member")}

    async def make() -> uuid.UUID:
        pool = await asyncpg.create_pool(service.dsn, min_size=0, max_size=1)
        try:
            made = await create_organization(pool, name, owner=people["owner"].username, tier=tier)
            await set_caps(pool, name, per_job_usd=money_usd, per_month_usd=money_usd)
            for role in ("admin", "maintainer", "member"):
                await set_role(pool, None, name, people[role].username, role)
            return made.id
        finally:
            await pool.close()

    return Organization(name=name, id=in_loop(make()), **people)
