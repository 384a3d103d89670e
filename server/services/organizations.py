"""Organisations: who belongs to them in which role, and their tokens for programs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from server.domain.accounts import Account, Caller, IssuedToken
from server.domain.errors import Conflict, InvalidRequest, NotFound
from server.domain.organizations import KeptToken, Member
from server.domain.rights import EVERYTHING, ROLES, SCOPES, Right, may_change_role, rights_of_role
from server.services import accounts, identity
from server.services.on_behalf import acting_for, no_such_account, role_lacks_right, token_lacks_right
from server.store import accounts as account_store
from server.store import organizations
from server.store.organizations import Standing

DEFAULT_SCOPES = ("read", "run")


async def create_organization(db: asyncpg.Pool, username: str, *, owner: str, tier: str = "free") -> Account:
    """The new organisation with its first owner. Raises InvalidRequest, Conflict, NotFound; then nothing was made."""
    person = await account_store.read_account(db, owner)
    if person is None or person.kind != "user" or not person.is_active:
        raise no_such_person(owner)
    made = await accounts.create_account(db, username, tier=tier, kind="organization")
    await set_role(db, None, username, owner, "owner")
    return made


async def set_role(db: asyncpg.Pool, caller: Caller | None, organization: str, username: str, role: str) -> datetime:
    """Since when the person, who now has the role, is a member. `caller` None: the operator.

    Raises InvalidRequest for an unknown role, NotFound, NotAllowed, and Conflict for the last owner.
    """
    if role not in ROLES:
        raise InvalidRequest(f"role: must be one of {', '.join(ROLES)}.", code="invalid_role")

    def check(standing: Standing) -> None:
        rights = _rights(standing, caller, organization)
        if not may_change_role(rights, before=standing.role, after=role):
            raise role_lacks_right(organization)
        if standing.person_id is None:
            raise no_such_person(username)
        _keep_an_owner(standing, after=role)

    joined_at = await organizations.change_member(
        db, organization, username, role=role, asker_id=caller.asker_id if caller else None, check=check
    )
    assert joined_at is not None  # noqa: S101 - a role was given
    return joined_at


async def remove_member(db: asyncpg.Pool, caller: Caller | None, organization: str, username: str) -> None:
    """The person is no member any more; anybody may leave. Safe to call twice. Raises as `set_role`."""

    def check(standing: Standing) -> None:
        rights = _rights(standing, caller, organization)
        leaves = caller is not None and caller.is_unlimited and caller.asker_id == standing.person_id
        if not leaves and not may_change_role(rights, before=standing.role, after=None):
            raise role_lacks_right(organization)
        if standing.person_id is None:
            raise no_such_person(username)
        _keep_an_owner(standing, after=None)

    await organizations.change_member(
        db, organization, username, role=None, asker_id=caller.asker_id if caller else None, check=check
    )


def _rights(standing: Standing, caller: Caller | None, organization: str) -> frozenset[Right]:
    """What the caller may do here. Raises NotFound for an organisation that they may not know of."""
    if standing.org_id is None:
        raise no_such_account(organization)
    if caller is None or caller.sees is None:
        return EVERYTHING
    if caller.asker_id == standing.org_id:
        return caller.rights  # a token of the organisation itself
    if standing.asker_role is None:
        raise no_such_account(organization)
    return rights_of_role(standing.asker_role) & caller.rights


def _keep_an_owner(standing: Standing, *, after: str | None) -> None:
    if standing.role == "owner" and after != "owner" and standing.owners <= 1:
        raise Conflict("An organisation needs an owner. Make somebody else owner first.", code="last_owner")


async def list_members(db: asyncpg.Pool, caller: Caller | None, organization: str) -> list[Member]:
    """Everybody in it. `caller` None: the operator. Raises NotFound, NotAllowed."""
    return await organizations.list_members(db, await _id(db, caller, organization, "see"))


async def create_token(
    db: asyncpg.Pool,
    caller: Caller | None,
    organization: str,
    *,
    name: str,
    scopes: Sequence[str] = DEFAULT_SCOPES,
    seconds: float | None = None,
) -> IssuedToken:
    """A new token of the organisation, shown this once. It may do no more than whoever makes it.

    Raises InvalidRequest for a name, scope or life that cannot be, NotFound, NotAllowed.
    """
    await _id(db, caller, organization, "administer")
    if not scopes or set(scopes) - set(SCOPES):
        raise InvalidRequest(f"scopes: one or more of {', '.join(SCOPES)}.", code="invalid_scopes")
    return await identity.issue_token(db, organization, name=name, seconds=seconds, scopes=sorted(set(scopes)))


async def list_tokens(db: asyncpg.Pool, caller: Caller | None, organization: str) -> list[KeptToken]:
    """Its live tokens, without what makes them tokens. Raises NotFound, NotAllowed."""
    return await organizations.list_tokens(db, await _id(db, caller, organization, "administer"))


async def revoke_token(db: asyncpg.Pool, caller: Caller | None, organization: str, token_id: str) -> None:
    """The token ends at once. Raises NotFound, NotAllowed."""
    org_id = await _id(db, caller, organization, "administer")
    try:
        done = await organizations.revoke_token(db, org_id, UUID(token_id))
    except ValueError:
        done = False
    if not done:
        raise NotFound("The organisation has no live token with this id.", code="token_not_found")


async def _id(db: asyncpg.Pool, caller: Caller | None, organization: str, right: Right) -> UUID:
    if caller is not None and caller.sees is not None:
        acting = await acting_for(db, caller, organization, right)
        if acting.kind != "organization":
            raise no_such_account(organization)
        return acting.id
    if caller is not None and right not in caller.rights:
        raise token_lacks_right(right)
    found = await account_store.read_account(db, organization)
    if found is None or found.kind != "organization":
        raise no_such_account(organization)
    return found.id


def no_such_person(username: str) -> NotFound:
    """Members are people with an account here."""
    shown = "".join(c if c.isprintable() else "�" for c in username[:100])
    return NotFound(f"There is no person named {shown}; an account has to be made first.", code="person_not_found")


list_organizations = organizations.list_organizations
list_all_organizations = organizations.list_all_organizations
