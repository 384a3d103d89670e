"""An account at a glance: who may do what, the month, where it is told, whose workflows test for it, its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from msgspec import Struct

from server.domain.accounts import Caller, Usage
from server.domain.errors import NotAllowed, NotFound
from server.domain.nearing import LEVELS, level_of_runs
from server.domain.notifications import Target
from server.domain.organizations import KeptToken, Membership
from server.domain.trust import Trust
from server.services.notifying import Notifying, list_targets
from server.services.on_behalf import acting_for
from server.services.usage import read_usage
from server.store import hooks, links, organizations, trust

# GitLab pauses webhooks whose deliveries failed, and then switches them off: nobody tells us.
QUIET = timedelta(days=14)


class Place(Struct, frozen=True, kw_only=True):
    """What is tested for the account at a forge: the App's installation, a webhook's repository or group."""

    name: str
    forge: str
    by: str  # App, webhook or settings
    note: str = ""
    is_suspended: bool = False
    delivered_at: datetime | None = None
    is_quiet: bool = False  # nothing was delivered for long: the webhook may be dead at its forge
    hook_id: UUID | None = None
    refused_at: datetime | None = None  # its token, lately
    refused_reason: str = ""


class Overview(Struct, frozen=True, kw_only=True):
    """What the visitor may see of the account. Tokens and repositories are None for who may not administer it."""

    account: Caller
    role: str | None  # of the visitor; None: it is their own account
    memberships: Sequence[Membership]
    usage: Usage
    runs_level: int  # per cent: 0, 50, 80 or 100
    money_level: int
    places: Sequence[Place]
    targets: Sequence[Target]
    repositories: Sequence[Trust] | None
    tokens: Sequence[KeptToken] | None


async def read_overview(site: Notifying, visitor: Caller, account: str | None) -> Overview:
    """Raises NotFound, NotAllowed as `acting_for`."""
    acting = await acting_for(site.db, visitor, account, "see")
    memberships = await organizations.list_organizations(site.db, visitor.asker_id)
    usage = await read_usage(site.db, acting)
    may_administer = await _may_administer(site.db, visitor, account)
    return Overview(
        account=acting,
        role=next((one.role for one in memberships if one.id == acting.id), None),
        memberships=memberships,
        usage=usage,
        runs_level=level_of_runs(usage.test_runs_count, usage.runs_per_month),
        money_level=_level_of_money(usage),
        places=await _places(site.db, acting.id),
        targets=await list_targets(site, acting.id),
        repositories=await trust.list_trusts(site.db, acting.id) if may_administer else None,
        tokens=await organizations.list_tokens(site.db, acting.id) if may_administer else None,
    )


async def revoke_token(db: asyncpg.Pool, visitor: Caller, account: str | None, token_id: str) -> None:
    """The account's token ends at once. Raises NotFound, NotAllowed."""
    acting = await acting_for(db, visitor, account, "administer")
    try:
        done = await organizations.revoke_token(db, acting.id, UUID(token_id))
    except ValueError:
        done = False
    if not done:
        raise NotFound("The account has no live token with this id.", code="token_not_found")


async def _places(db: asyncpg.Pool, account_id: UUID) -> list[Place]:
    """By name. A webhook stands for what it was linked to; an installation's repositories are named as they deliver."""
    found = [
        Place(
            name=one.name,
            forge=one.forge,
            by="webhook",
            note="and all projects in this group" if one.is_group else "",
            delivered_at=one.delivered_at,
            is_quiet=one.delivered_at is not None and datetime.now(UTC) - one.delivered_at >= QUIET,
            hook_id=one.id,
            refused_at=one.refused_at,
            refused_reason=one.refused_reason or "",
        )
        for one in await hooks.list_hooks(db, account_id)
    ]
    found += [
        Place(
            name=one.owner or str(one.installation_id),
            forge=one.forge,
            by="App",
            note="the repositories that were chosen there",
            is_suspended=one.suspended_at is not None,
        )
        for one in await links.list_installations(db, account_id)
    ]
    found += [
        Place(name=one.name, forge=one.forge, by="App" if one.installation_id else "settings")
        for one in await links.list_links(db, account_id)
        if one.hook_id is None
    ]
    return sorted(found, key=lambda one: (one.forge, one.name))


async def _may_administer(db: asyncpg.Pool, visitor: Caller, account: str | None) -> bool:
    try:
        await acting_for(db, visitor, account, "administer")
    except NotAllowed:
        return False
    return True


def _level_of_money(usage: Usage) -> int:
    """As of runs; an account that may spend nothing has nothing to be warned of."""
    if usage.money_per_month_usd <= 0:
        return 0
    return next((level for level in LEVELS if usage.cost_usd * 100 >= usage.money_per_month_usd * level), 0)
