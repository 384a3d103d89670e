"""The usage ledger: why an account's count is what it is."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

EntryKind = Literal["charge", "cached", "refund"]


class LedgerEntry(Struct, frozen=True, kw_only=True):
    """One reason for a count: `runs` is 1 for a charge, 0 for a cached job, -1 for a refund."""

    id: int  # grows with time
    at: datetime
    kind: EntryKind
    runs: int
    reason: str
    job_id: UUID
    cost_usd: float  # what the job's models have cost so far; 0 for a refund
    package_name: str
    package_version: str


class LedgerTotals(Struct, frozen=True, kw_only=True):
    """A month's entries, counted by kind; `runs` and `cost_usd` are their sums."""

    charges: int
    refunds: int
    cached: int
    runs: int
    cost_usd: float


class LedgerPage(Struct, frozen=True, kw_only=True):
    """Entries of a month, newest first; `totals` are of the whole month."""

    month: date  # its first day, UTC
    entries: list[LedgerEntry]
    totals: LedgerTotals
    has_more: bool
