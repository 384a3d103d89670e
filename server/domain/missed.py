"""Deliveries that a forge sent and that did not arrive."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from server.domain.links import KeptLink


class Sent(Struct, frozen=True, kw_only=True):
    """One try of a delivery, as the forge lists it. Of another try the `delivery_id` is the same."""

    attempt_id: int
    delivery_id: str
    event: str
    sent_at: datetime
    has_arrived: bool
    trouble: str  # what the forge says of it


class Look(Struct, frozen=True, kw_only=True):
    """A look through what was sent, as far as it is. It is whose `fence` is the latest."""

    source: str
    fence: int
    looked_until: datetime
    walk_until: datetime | None  # None: a new walk
    cursor: str


class Missed(Struct, frozen=True, kw_only=True):
    """A delivery that is to be asked for again."""

    source: str
    delivery_id: str
    attempt_id: int
    event: str
    trouble: str
    sent_at: datetime
    asked: int
    next_at: datetime


class DueLink(Struct, frozen=True):
    """A repository in which something may have been proposed since then while nobody answered."""

    link: KeptLink
    since: datetime
