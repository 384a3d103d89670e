"""Accounts, as operators and administrators handle them."""

from __future__ import annotations

import re
from decimal import Decimal

import asyncpg

from server.domain.accounts import Account
from server.domain.errors import Conflict, InvalidRequest, NotFound
from server.domain.tiers import TIERS
from server.store import accounts

USERNAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,98}[A-Za-z0-9])?")
MOST_USD = 1_000_000
EMAIL = re.compile(r"[^@\s\x00]{1,64}@[^@\s\x00]{1,190}")


async def create_account(
    db: asyncpg.Pool,
    username: str,
    *,
    tier: str = "free",
    email: str | None = None,
    kind: str = "user",
    is_admin: bool = False,
) -> Account:
    """The new account. Raises InvalidRequest, or Conflict when the name or address is taken."""
    if not USERNAME.fullmatch(username):
        raise InvalidRequest("username: 1 to 100 letters, digits and hyphens, no hyphen at the ends.")
    if email is not None and not EMAIL.fullmatch(email):
        raise InvalidRequest("email: not an address.")
    account = await accounts.create_account(
        db, username, kind=kind, email=email, tier=known_tier(tier), is_admin=is_admin
    )
    if account is None:
        raise Conflict(f"The name {username} or its e-mail address is taken.", code="account_exists")
    return account


async def read_account(db: asyncpg.Pool, username: str) -> Account:
    """Raises NotFound."""
    return _found(await accounts.read_account(db, username), username)


async def set_tier(db: asyncpg.Pool, username: str, tier: str) -> Account:
    """Move the account; what runs or waits goes on. Raises NotFound, InvalidRequest."""
    return _found(await accounts.set_tier(db, username, known_tier(tier)), username)


async def set_caps(
    db: asyncpg.Pool, username: str, *, per_job_usd: float | None, per_month_usd: float | None
) -> Account:
    """Money caps of the account's own, None for its tier's. Raises NotFound, InvalidRequest."""
    caps = {"per_job_usd": _cap(per_job_usd, "per job"), "per_month_usd": _cap(per_month_usd, "per month")}
    return _found(await accounts.set_caps(db, username, **caps), username)


def _cap(amount: float | None, what: str) -> Decimal | None:
    if amount is None:
        return None
    if not 0 <= amount <= MOST_USD:  # NaN too
        raise InvalidRequest(f"The cap {what} must be an amount of USD from 0 to {MOST_USD:,}.", code="invalid_cap")
    return round(Decimal(str(amount)), 6)


def known_tier(tier: str) -> str:
    """The tier, if there is one of this name. Raises InvalidRequest."""
    if tier not in TIERS:
        raise InvalidRequest(f"tier: must be one of {', '.join(TIERS)}.")
    return tier


def _found(account: Account | None, username: str) -> Account:
    if account is None:
        raise NotFound(f"There is no account named {username}.", code="account_not_found")
    return account
