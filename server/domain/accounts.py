"""Who asks, and who is billed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct


class Account(Struct, frozen=True, kw_only=True):
    """A user or an organisation."""

    id: UUID
    kind: str
    username: str
    email: str | None
    tier: str
    is_admin: bool
    is_active: bool
    created_at: datetime
    money_per_job_usd: Decimal | None = None  # None: the tier's
    money_per_month_usd: Decimal | None = None


class Credential(Struct, frozen=True, kw_only=True):
    """What a checked token names: an account, or the hash of a kept token. The database has the rest."""

    account_id: UUID | None = None
    token_hash: str | None = None


class Caller(Struct, frozen=True, kw_only=True):
    """Whoever proved who they are for this request. The tier is always the database's."""

    id: UUID
    kind: str
    username: str
    email: str | None
    tier: str
    is_admin: bool
    token_kind: str

    @property
    def sees(self) -> UUID | None:
        """The account whose things they see; None sees everything."""
        return None if self.is_admin else self.id


class Usage(Struct, frozen=True, kw_only=True):
    """An account's month so far. `runs_per_month` None is unlimited."""

    tier: str
    runs_per_month: int | None
    concurrent_jobs: int
    resets_on: date
    test_runs_count: int
    tokens_used: int
    cost_usd: float
    held_usd: float  # by running jobs, for calls to come
    money_per_job_usd: float
    money_per_month_usd: float

    @property
    def money_left_usd(self) -> float:
        """What another job may cost this month."""
        return max(round(self.money_per_month_usd - self.cost_usd - self.held_usd, 6), 0.0)


class IssuedToken(Struct, frozen=True, kw_only=True):
    """A token in clear, shown once."""

    id: UUID
    token: str
    name: str
    expires_at: datetime | None
