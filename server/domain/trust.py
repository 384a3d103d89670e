"""Repositories whose workflows may test for an account without a key."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from msgspec import Struct


class NewTrust(Struct, frozen=True, kw_only=True):
    """A repository that is about to be trusted. `workflow` None: any file of it may."""

    account: str
    issuer: str
    forge: str
    repository_id: int
    owner_id: int
    repository: str
    workflow: str | None
    events: list[str]
    scopes: list[str]
    proof: str


class Trust(Struct, frozen=True, kw_only=True):
    """A repository that is trusted."""

    id: UUID
    account_id: UUID
    account: str
    issuer: str
    forge: str
    repository_id: int
    owner_id: int
    repository: str
    workflow: str | None
    events: list[str]
    scopes: list[str]
    proof: str
    created_at: datetime


class Exchanged(Struct, frozen=True, kw_only=True):
    """What a workflow got for its token, shown this once."""

    token: str
    expires_at: datetime
    account: str
    repository: str
