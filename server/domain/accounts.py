"""Who asks, and who is billed."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

from msgspec import Struct

from server.domain.rights import EVERYTHING, Right, rights_of_scopes


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
    """Whoever proved who they are for this request, and the account that they act for. The tier is the database's."""

    id: UUID
    kind: str
    username: str
    email: str | None
    tier: str
    is_admin: bool
    token_kind: str
    asker_id: UUID  # who asks: a person, an organisation's token, or the trusted repository of a workflow
    scopes: tuple[str, ...]  # what the token is for
    trust_id: UUID | None = None  # the token is a workflow's, and for its repository alone

    @property
    def sees(self) -> UUID | None:
        """Whose things they see; None sees everything."""
        return None if self.is_admin and self.is_unlimited else self.asker_id

    @property
    def rights(self) -> frozenset[Right]:
        """What the token may do for its own account."""
        return rights_of_scopes(self.scopes)

    @property
    def is_unlimited(self) -> bool:
        """Whether the token is for whatever its account may do."""
        return self.trust_id is None and self.rights == EVERYTHING


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
