"""Deliveries of forges as they are kept and handled."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

DeliveryState = Literal["received", "handled", "ignored", "invalid", "failed"]


class ClaimedDelivery(Struct, frozen=True, kw_only=True):
    """One that a handler has. `attempts` counts this one; `holder` is whose it is, "" where nobody knows."""

    id: int
    source: str
    hook_id: UUID | None
    delivery_id: str
    event: str
    body: bytes
    attempts: int
    fence: int
    holder: str = ""


class Room(Struct, frozen=True, kw_only=True):
    """What a handler has free and has: slots of each source that has fewer than all, and deliveries of each holder.

    `full_holders` and `full_sources` get no more for now.
    """

    free: Mapping[str, int] = {}
    has: Mapping[str, int] = {}
    full_holders: tuple[str, ...] = ()
    full_sources: tuple[str, ...] = ()


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
