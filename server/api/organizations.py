"""`/api/v1/organizations`: accounts of several people, their members and tokens."""

from __future__ import annotations

from typing import Annotated

from litestar import delete, get, post, put
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import Site, allows
from server.api.errors import refusals
from server.api.timestamps import iso, iso_if
from server.domain.accounts import Caller
from server.domain.rights import ROLES, SCOPES
from server.services import organizations

TAGS = ["Organisations"]


class NewOrganization(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(examples=["acme"])]
    owner: Annotated[str, Meta(examples=["alice"])]
    tier: str = "free"


class NewRole(Struct, kw_only=True, forbid_unknown_fields=True):
    role: Annotated[str, Meta(examples=["maintainer"], description=", ".join(ROLES))]


class NewOrganizationToken(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(examples=["nightly build"])]
    scopes: Annotated[list[str], Meta(description=f"{', '.join(SCOPES)}; read and run when left out")] | None = None
    expires_in_seconds: float | None = None


class OrganizationAnswer(Struct, kw_only=True):
    """An organisation as one of its members sees it."""

    id: str
    name: Annotated[str, Meta(examples=["acme"])]
    tier: Annotated[str, Meta(examples=["pro"])]
    role: Annotated[str, Meta(examples=["owner"])] | UnsetType = UNSET


class OrganizationsAnswer(Struct, kw_only=True):
    organizations: list[OrganizationAnswer]


class MemberAnswer(Struct, kw_only=True):
    username: Annotated[str, Meta(examples=["alice"])]
    role: Annotated[str, Meta(examples=["owner"])]
    joined_at: str


class MembersAnswer(Struct, kw_only=True):
    members: list[MemberAnswer]


class KeptTokenAnswer(Struct, kw_only=True):
    id: str
    name: str
    scopes: list[str]
    created_at: str
    expires_at: str | UnsetType = UNSET


class KeptTokensAnswer(Struct, kw_only=True):
    tokens: list[KeptTokenAnswer]


class NewTokenAnswer(Struct, kw_only=True):
    """`token` is shown this once."""

    id: str
    token: str
    name: str
    expires_at: str | UnsetType = UNSET


@get(
    "/api/v1/organizations",
    opt=allows("see"),
    tags=TAGS,
    summary="List my organisations",
    responses=refusals(401, 403),
)
async def list_organizations(site: Site, caller: Caller) -> OrganizationsAnswer:
    """Those that the caller is a member of, with their role."""
    found = await organizations.list_organizations(site.db, caller.asker_id)
    return OrganizationsAnswer(
        organizations=[
            OrganizationAnswer(id=str(one.id), name=one.username, tier=one.tier, role=one.role) for one in found
        ]
    )


@post(
    "/api/v1/organizations",
    tags=TAGS,
    summary="Make an organisation",
    responses=refusals(400, 401, 403, 404, 409, 415),
)
async def create_organization(data: NewOrganization, site: Site, admin: Caller) -> OrganizationAnswer:
    """For administrators of the service. The owner is a person with an account."""
    made = await organizations.create_organization(site.db, data.name, owner=data.owner, tier=data.tier)
    return OrganizationAnswer(id=str(made.id), name=made.username, tier=made.tier)


@get(
    "/api/v1/organizations/{name:str}/members",
    opt=allows("see"),
    tags=TAGS,
    summary="List an organisation's members",
    responses=refusals(401, 403, 404),
)
async def list_members(name: str, site: Site, caller: Caller) -> MembersAnswer:
    """By role, then by name."""
    found = await organizations.list_members(site.db, caller, name)
    return MembersAnswer(
        members=[MemberAnswer(username=one.username, role=one.role, joined_at=iso(one.joined_at)) for one in found]
    )


@put(
    "/api/v1/organizations/{name:str}/members/{username:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Add a member, or change a role",
    responses=refusals(400, 401, 403, 404, 409, 415),
)
async def set_role(name: str, username: str, data: NewRole, site: Site, caller: Caller) -> MemberAnswer:
    """Admins may do this up to admin, owners up to owner. The last owner stays one."""
    joined_at = await organizations.set_role(site.db, caller, name, username, data.role)
    return MemberAnswer(username=username, role=data.role, joined_at=iso(joined_at))


@delete(
    "/api/v1/organizations/{name:str}/members/{username:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Remove a member, or leave",
    responses=refusals(401, 403, 404, 409),
)
async def remove_member(name: str, username: str, site: Site, caller: Caller) -> None:
    """Holds at once, also for their tokens. Anybody may leave, but for the last owner."""
    await organizations.remove_member(site.db, caller, name, username)


@get(
    "/api/v1/organizations/{name:str}/tokens",
    opt=allows("administer"),
    tags=TAGS,
    summary="List an organisation's tokens",
    responses=refusals(401, 403, 404),
)
async def list_tokens(name: str, site: Site, caller: Caller) -> KeptTokensAnswer:
    """Those that are live, newest first."""
    found = await organizations.list_tokens(site.db, caller, name)
    return KeptTokensAnswer(
        tokens=[
            KeptTokenAnswer(
                id=str(one.id),
                name=one.name,
                scopes=one.scopes,
                created_at=iso(one.created_at),
                expires_at=iso_if(one.expires_at),
            )
            for one in found
        ]
    )


@post(
    "/api/v1/organizations/{name:str}/tokens",
    tags=TAGS,
    summary="Make a token of an organisation",
    responses=refusals(400, 401, 403, 404, 415),
)
async def create_token(name: str, data: NewOrganizationToken, site: Site, caller: Caller) -> NewTokenAnswer:
    """For programs; shown once. Whoever makes it is a person: no token of limited scope can make another."""
    scopes = organizations.DEFAULT_SCOPES if data.scopes is None else data.scopes
    issued = await organizations.create_token(
        site.db,
        caller,
        name,
        name=data.name,
        scopes=scopes,
        seconds=data.expires_in_seconds,
    )
    return NewTokenAnswer(id=str(issued.id), token=issued.token, name=issued.name, expires_at=iso_if(issued.expires_at))


@delete(
    "/api/v1/organizations/{name:str}/tokens/{token_id:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Revoke a token of an organisation",
    responses=refusals(401, 403, 404),
)
async def revoke_token(name: str, token_id: str, site: Site, caller: Caller) -> None:
    """Holds at once."""
    await organizations.revoke_token(site.db, caller, name, token_id)


handlers = [
    list_organizations,
    create_organization,
    list_members,
    set_role,
    remove_member,
    list_tokens,
    create_token,
    revoke_token,
]
