"""An organisation: an account that people are members of."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class Membership(Struct, frozen=True, kw_only=True):
    """An organisation as one of its members sees it."""

    id: UUID
    username: str
    tier: str
    role: str


class Member(Struct, frozen=True, kw_only=True):
    """Who belongs to it."""

    username: str
    role: str
    joined_at: datetime


class KnownOrganization(Struct, frozen=True, kw_only=True):
    """An organisation as the operator sees it."""

    id: UUID
    username: str
    tier: str
    members: int


class KeptToken(Struct, frozen=True, kw_only=True):
    """A token, as it is shown after it was made."""

    id: UUID
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
