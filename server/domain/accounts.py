"""Who asks, and who is billed."""

from __future__ import annotations

from datetime import date, datetime
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


class IssuedToken(Struct, frozen=True, kw_only=True):
    """A token in clear, shown once."""

    id: UUID
    token: str
    name: str
    expires_at: datetime | None
