"""Deliveries of forges as they are kept and handled."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

DeliveryState = Literal["received", "handled", "ignored", "invalid", "failed"]


class ClaimedDelivery(Struct, frozen=True, kw_only=True):
    """One that a handler has. `attempts` counts this one."""

    id: int
    source: str
    hook_id: UUID | None
    delivery_id: str
    event: str
    body: bytes
    attempts: int
    fence: int


class Ended(Struct, frozen=True):
    """What came of a delivery; `reason` is a sentence for people."""

    state: DeliveryState
    reason: str


class ListedDelivery(Struct, frozen=True, kw_only=True):
    """One as operators see it, without its body."""

    id: int
    source: str
    hook_id: UUID | None
    delivery_id: str
    event: str
    received_at: datetime
    state: DeliveryState
    reason: str | None
    attempts: int
    next_at: datetime
    bytes: int
