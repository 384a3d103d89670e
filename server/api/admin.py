"""`/api/v1/admin`: what `prpm-testing account` and `token` do, for administrators over HTTP."""

from __future__ import annotations

import time

from litestar import delete, get, post, put
from msgspec import UNSET, Struct, UnsetType

from server.api.context import Site
from server.api.errors import refusals
from server.api.timestamps import iso, iso_if
from server.domain.accounts import Account, Caller
from server.domain.errors import InvalidRequest
from server.services import accounts, identity

TAGS = ["Administration"]


class NewAccount(Struct, kw_only=True, forbid_unknown_fields=True):
    username: str
    tier: str = "free"
    email: str | None = None
    kind: str = "user"


class NewTier(Struct, kw_only=True, forbid_unknown_fields=True):
    tier: str


class NewToken(Struct, kw_only=True, forbid_unknown_fields=True):
    username: str
    name: str
    expires_in_seconds: float | None = None
    jwt: bool = False


class AccountAnswer(Struct, kw_only=True):
    id: str
    username: str
    kind: str
    tier: str
    is_admin: bool
    is_active: bool
    created_at: str
    email: str | UnsetType = UNSET


class TokenAnswer(Struct, kw_only=True):
    """`token` is shown this once."""

    id: str
    token: str
    name: str
    expires_at: str | UnsetType = UNSET


@post("/api/v1/admin/accounts", tags=TAGS, summary="Make an account", responses=refusals(400, 401, 403, 409, 415))
async def create_account(data: NewAccount, site: Site, admin: Caller) -> AccountAnswer:
    """A user or an organisation."""
    if data.kind not in ("user", "organization"):
        raise InvalidRequest("kind: must be user or organization.")
    return _answer(
        await accounts.create_account(site.db, data.username, tier=data.tier, email=data.email, kind=data.kind)
    )


@get(
    "/api/v1/admin/accounts/{username:str}", tags=TAGS, summary="Look at an account", responses=refusals(401, 403, 404)
)
async def show_account(username: str, site: Site, admin: Caller) -> AccountAnswer:
    """By its name."""
    return _answer(await accounts.read_account(site.db, username))


@put(
    "/api/v1/admin/accounts/{username:str}/tier",
    tags=TAGS,
    summary="Move an account to a tier",
    responses=refusals(400, 401, 403, 404, 415),
)
async def set_tier(username: str, data: NewTier, site: Site, admin: Caller) -> AccountAnswer:
    """Holds from the next submit and start on."""
    return _answer(await accounts.set_tier(site.db, username, data.tier))


@post("/api/v1/admin/tokens", tags=TAGS, summary="Make a token", responses=refusals(400, 401, 403, 404, 415))
async def create_token(data: NewToken, site: Site, admin: Caller) -> TokenAnswer:
    """Shown once. With `jwt` one that the registry's own command accepts."""
    secret = site.jwt_rules.shared_secret
    if data.jwt and secret is None:
        raise InvalidRequest("jwt: this service has no PRPM_JWT_SECRET to sign with.")
    issued = await identity.issue_token(
        site.db,
        data.username,
        name=data.name,
        seconds=data.expires_in_seconds,
        jwt_secret=secret if data.jwt else None,
        now=int(time.time()),
    )
    return TokenAnswer(id=str(issued.id), token=issued.token, name=issued.name, expires_at=iso_if(issued.expires_at))


@delete("/api/v1/admin/tokens/{token_id:str}", tags=TAGS, summary="Revoke a token", responses=refusals(401, 403, 404))
async def revoke_token(token_id: str, site: Site, admin: Caller) -> None:
    """By the id that its making answered; holds at once."""
    await identity.revoke_token(site.db, token_id)


def _answer(account: Account) -> AccountAnswer:
    return AccountAnswer(
        id=str(account.id),
        username=account.username,
        kind=account.kind,
        tier=account.tier,
        is_admin=account.is_admin,
        is_active=account.is_active,
        created_at=iso(account.created_at),
        email=account.email or UNSET,
    )


handlers = [create_account, show_account, set_tier, create_token, revoke_token]
