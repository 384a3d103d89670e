"""Times as forges write them."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(text: object) -> datetime | None:
    """A forge's time, in UTC where it names no zone; None for what is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(text.removesuffix(" UTC"))
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def second(text: object) -> datetime | None:
    """As `moment`, without what is below a second: deliveries write whole seconds, and are compared with answers."""
    found = moment(text)
    return found.replace(microsecond=0) if found is not None else None
