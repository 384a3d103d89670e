"""Accounts, tokens and usage in PostgreSQL."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import asyncpg

from server.domain.accounts import Account, Caller, IssuedToken, Usage
from server.store.queries import read_queries

SQL = read_queries("accounts")


async def create_account(
    db: asyncpg.Pool, username: str, *, kind: str, email: str | None, tier: str, is_admin: bool
) -> Account | None:
    """The new account; None when its name or address is taken."""
    row = await db.fetchrow(SQL["create_account"], kind, username, email, tier, is_admin)
    return _account(row) if row else None


async def read_account(db: asyncpg.Pool, username: str) -> Account | None:
    row = await db.fetchrow(SQL["read_account"], username)
    return _account(row) if row else None


async def set_tier(db: asyncpg.Pool, username: str, tier: str) -> Account | None:
    row = await db.fetchrow(SQL["set_tier"], username, tier)
    return _account(row) if row else None


async def set_caps(
    db: asyncpg.Pool, username: str, *, per_job_usd: Decimal | None, per_month_usd: Decimal | None
) -> Account | None:
    row = await db.fetchrow(SQL["set_caps"], username, per_job_usd, per_month_usd)
    return _account(row) if row else None


async def is_empty(db: asyncpg.Pool) -> bool:
    """Whether nobody has an account yet."""
    return not await db.fetchval(SQL["count_accounts"])


async def read_caller_by_token(db: asyncpg.Pool, token_hash: str) -> Caller | None:
    row = await db.fetchrow(SQL["read_caller_by_token"], token_hash)
    return _caller(row) if row else None


async def read_caller_by_id(db: asyncpg.Pool, account_id: UUID) -> Caller | None:
    row = await db.fetchrow(SQL["read_caller_by_id"], account_id)
    return _caller(row) if row else None


async def read_account_for(db: asyncpg.Pool, username: str, *, asker_id: UUID) -> asyncpg.Record | None:
    """`id`, `kind`, `username`, `email`, `subscription_tier` and the asker's `role` (None: no member)."""
    return await db.fetchrow(SQL["read_account_for"], username, asker_id)


async def create_token(
    db: asyncpg.Pool,
    account_id: UUID,
    *,
    token: str,
    token_hash: str,
    kind: str,
    name: str,
    scopes: list[str],
    seconds: float | None,
) -> IssuedToken:
    """Keep the hash of `token`, which lives for `seconds` (None: until it is revoked)."""
    row = await db.fetchrow(SQL["create_token"], account_id, kind, token_hash, name, scopes, seconds)
    return IssuedToken(id=row["id"], token=token, name=row["name"], expires_at=row["expires_at"])


async def revoke_token(db: asyncpg.Pool, *, token_id: UUID | None = None, token_hash: str | None = None) -> bool:
    """Whether there was a live token to end."""
    return await db.fetchval(SQL["revoke_token"], token_id, token_hash) is not None


async def read_usage(db: asyncpg.Pool, account_id: UUID) -> Usage:
    row = await db.fetchrow(SQL["read_usage"], account_id)
    return Usage(
        tier=row["tier"],
        runs_per_month=row["runs_per_month"],
        concurrent_jobs=row["concurrent_jobs"],
        resets_on=row["resets_on"],
        test_runs_count=row["test_runs_count"],
        tokens_used=row["tokens_used"],
        cost_usd=float(row["cost_usd"]),
        held_usd=float(row["held_usd"]),
        money_per_job_usd=float(row["money_per_job_usd"]),
        money_per_month_usd=float(row["money_per_month_usd"]),
    )


def _account(row: asyncpg.Record) -> Account:
    return Account(
        id=row["id"],
        kind=row["kind"],
        username=row["username"],
        email=row["email"],
        tier=row["subscription_tier"],
        is_admin=row["is_admin"],
        is_active=row["is_active"],
        created_at=row["created_at"],
        money_per_job_usd=row["money_per_job_usd"],
        money_per_month_usd=row["money_per_month_usd"],
    )


def _caller(row: asyncpg.Record) -> Caller:
    return Caller(
        id=row["id"],
        kind=row["kind"],
        username=row["username"],
        email=row["email"],
        tier=row["subscription_tier"],
        is_admin=row["is_admin"],
        token_kind=row["token_kind"],
        asker_id=row["trust_id"] or row["id"],
        scopes=tuple(row["scopes"]),
        trust_id=row["trust_id"],
    )
