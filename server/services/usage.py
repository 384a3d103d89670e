"""What an account has used and may still use, and why."""

from __future__ import annotations

import re
from datetime import date

import asyncpg

from server.domain.accounts import Caller, Usage
from server.domain.errors import InvalidRequest
from server.domain.ledger import LedgerPage
from server.store import accounts, usage

MONTH = re.compile(r"([1-9][0-9]{3})-(0[1-9]|1[0-2])", re.ASCII)
CURSOR = re.compile(r"[0-9]{1,18}", re.ASCII)


async def read_usage(db: asyncpg.Pool, caller: Caller) -> Usage:
    """The month so far, by the database's clock in UTC."""
    return await accounts.read_usage(db, caller.id)


async def read_ledger(
    db: asyncpg.Pool, caller: Caller, *, month: str | None, cursor: str | None, limit: int
) -> LedgerPage:
    """What the caller's account was charged and given back in a month such as `2026-11` (None: this one).

    `cursor` is that of the page before. Raises InvalidRequest for a month or cursor that cannot be.
    """
    return await usage.read_ledger(db, caller.id, month=parse_month(month), before=parse_cursor(cursor), most=limit)


def parse_month(text: str | None) -> date | None:
    """The month's first day. Raises InvalidRequest."""
    if text is None:
        return None
    match = MONTH.fullmatch(text)
    if match is None:
        raise InvalidRequest("month: must be a year and a month, such as 2026-11.", code="invalid_month")
    return date(int(match[1]), int(match[2]), 1)


def parse_cursor(text: str | None) -> int | None:
    """The id of a page's last entry. Raises InvalidRequest for what no page said."""
    if text is None:
        return None
    if CURSOR.fullmatch(text) is None:
        raise InvalidRequest(
            "cursor: must be the `next_cursor` of the page before; leave it out for the first page.",
            code="invalid_cursor",
        )
    return int(text)
