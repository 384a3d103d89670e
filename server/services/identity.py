"""Who is calling: tokens of ours, and JWTs as the registry signs them. The database decides what they may do."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import jwt
from msgspec import Struct

from server.domain.accounts import Caller, Credential, IssuedToken
from server.domain.errors import InvalidRequest, NotAuthenticated, NotFound
from server.services.signing_keys import SigningKeys
from server.store import accounts

TOKEN_PREFIX = "prpm_"  # noqa: S105 - a public prefix
SESSION_SECONDS = 12 * 3600.0
LEEWAY_SECONDS = 30
PEOPLES_SCOPES = ("read:packages", "write:packages")  # the registry's words: all that the account may do


class JwtRules(Struct, frozen=True, kw_only=True):
    """How JWTs are checked. The algorithm is configuration, never the token's own word (A1, A2)."""

    shared_secret: str | None = None  # HS256, as the registry issues them
    keys: SigningKeys | None = None  # RS256 by JWKS


async def identify(db: asyncpg.Pool, unverified_token: str, *, rules: JwtRules) -> Caller:
    """Who the token stands for. Raises NotAuthenticated, with the same words whatever was wrong."""
    return await read_caller(db, await verify_token(unverified_token, rules=rules))


async def verify_token(unverified_token: str, *, rules: JwtRules) -> Credential:
    """What the token names, its signature checked if it has one. Raises NotAuthenticated."""
    if unverified_token.startswith(TOKEN_PREFIX):
        return Credential(token_hash=hash_token(unverified_token))
    claims = await _verified_claims(unverified_token, rules=rules)
    if "jti" in claims:  # one of ours, made by `token create --jwt`: it can be revoked
        return Credential(token_hash=hash_token(unverified_token))
    try:
        return Credential(account_id=UUID(str(claims["user_id"])))
    except (KeyError, ValueError):
        raise not_authenticated() from None


async def read_caller(db: asyncpg.Pool, credential: Credential) -> Caller:
    """Who the credential stands for, if token and account are live. Raises NotAuthenticated."""
    if credential.account_id is not None:
        caller = await accounts.read_caller_by_id(db, credential.account_id)
    else:
        caller = await accounts.read_caller_by_token(db, credential.token_hash or "")
    if caller is None:
        raise not_authenticated()
    return caller


async def _verified_claims(unverified_token: str, *, rules: JwtRules) -> Mapping[str, Any]:
    options: Any = {"verify_aud": False, "verify_iss": False}
    try:
        if rules.shared_secret is not None:
            return jwt.decode(
                unverified_token,
                rules.shared_secret,
                algorithms=["HS256"],
                options=options,
                leeway=LEEWAY_SECONDS,
            )
        if rules.keys is not None:
            key = await rules.keys.find(jwt.get_unverified_header(unverified_token).get("kid"))
            if key is not None:
                # Only the registry's HS256 tokens are known to come without an end.
                options["require"] = ["exp"]
                return jwt.decode(unverified_token, key, algorithms=["RS256"], options=options, leeway=LEEWAY_SECONDS)
    # PyJWT lets a few plain errors through for hostile tokens (an `exp` of 1e20, a header that is no object).
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        pass
    raise not_authenticated()


def not_authenticated() -> NotAuthenticated:
    """The same words whatever was wrong with a token."""
    return NotAuthenticated("This token is not valid. Log in again with `prpm login`.")


def hash_token(token: str) -> str:
    """Hex SHA-256: tokens are random, so no salt or slow hash is needed."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def new_token() -> str:
    """`prpm_` and 43 random characters."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


async def issue_token(
    db: asyncpg.Pool,
    username: str,
    *,
    name: str,
    kind: str = "api",
    seconds: float | None = None,
    scopes: Sequence[str] = PEOPLES_SCOPES,
    jwt_secret: str | None = None,
    now: int = 0,
) -> IssuedToken:
    """A new token of the account, shown this once. With `jwt_secret` a JWT that the registry's own CLI accepts.

    Raises NotFound for an unknown account, InvalidRequest for a name or life that cannot be.
    """
    if not name.strip() or len(name) > 100:
        raise InvalidRequest("Give the token a name of 1 to 100 characters.")
    if seconds is not None and not 0 < seconds <= 10 * 366 * 86_400:
        raise InvalidRequest("A token may live from one second to ten years.")
    account = await accounts.read_account(db, username)
    if account is None:
        raise NotFound(f"There is no account named {username}. Make it with `prpm-testing account create`.")
    token = new_token()
    if jwt_secret is not None:
        claims: dict[str, Any] = {
            "user_id": str(account.id),
            "username": account.username,
            "email": account.email,
            "is_admin": account.is_admin,
            "scopes": list(scopes),
            "jti": secrets.token_hex(16),
            "iat": now,
        }
        if seconds is not None:
            claims["exp"] = int(now + seconds)
        token = jwt.encode(claims, jwt_secret, algorithm="HS256")
    return await accounts.create_token(
        db,
        account.id,
        token=token,
        token_hash=hash_token(token),
        kind="jwt" if jwt_secret is not None else kind,
        name=name,
        scopes=list(scopes),
        seconds=seconds,
    )


async def open_session(db: asyncpg.Pool, caller: Caller) -> IssuedToken:
    """A browser's session, ended after 12 hours."""
    return await issue_token(db, caller.username, name="browser", kind="session", seconds=SESSION_SECONDS)


async def revoke_token(db: asyncpg.Pool, which: str) -> None:
    """End a token named by its id or itself. Raises NotFound."""
    try:
        done = await accounts.revoke_token(db, token_id=UUID(which))
    except ValueError:
        done = await accounts.revoke_token(db, token_hash=hash_token(which))
    if not done:
        raise NotFound("There is no live token with this id.")
