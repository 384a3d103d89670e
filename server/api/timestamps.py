"""Times as the contract writes them."""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import UNSET, UnsetType


def iso(moment: datetime) -> str:
    """ISO 8601 in UTC with milliseconds and Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_if(moment: datetime | None) -> str | UnsetType:
    """The same, left out where there is none."""
    return iso(moment) if moment is not None else UNSET
