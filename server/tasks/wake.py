"""The one task that arq carries: look for work now. It names no job and returns at once."""

from __future__ import annotations

from typing import Any


async def wake(context: dict[str, Any]) -> None:
    """Nudge each of this worker's loops."""
    for nudge in context["nudges"]:
        nudge()
