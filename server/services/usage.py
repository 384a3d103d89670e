"""What an account has used and may still use."""

from __future__ import annotations

import asyncpg

from server.domain.accounts import Caller, Usage
from server.store import accounts


async def read_usage(db: asyncpg.Pool, caller: Caller) -> Usage:
    """The month so far, by the database's clock in UTC."""
    return await accounts.read_usage(db, caller.id)
