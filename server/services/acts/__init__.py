"""What comes of each kind of event: a file each. To add one, put a file here:

    async def tag_pushed(acting: Acting, pushed: TagPushed, delivery: ClaimedDelivery) -> Ended:
        \"\"\"A tag is tested.\"\"\"

    ACTS.register(TagPushed.__name__, tag_pushed)

An act may be called again for the same delivery, and for another one that says the same: what it submits is named by
the event, so that it is submitted once. It raises TryLater for what is away, NothingToDo, and what makes it impossible:
NotLinked, CannotRead, TooMuch.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from msgspec import Struct

from evals.plugins import Registry
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.jobs import Wakeups
from server.services.admission import Admission
from server.services.fetching import FETCH_SECONDS
from server.services.forge_access import ForgeAccess


class NothingToDo(Exception):
    """The event starts nothing; `str()` is a sentence for operators that says why."""


class Acting(Struct, frozen=True, kw_only=True):
    """What acts need."""

    db: asyncpg.Pool
    access: ForgeAccess
    admission: Admission
    wakeups: Wakeups
    fetch_seconds: float = FETCH_SECONDS  # what one event's files may take


# The event's own type comes with its name: each act takes the one that it is registered for.
Act = Callable[[Acting, Any, ClaimedDelivery], Awaitable[Ended]]

ACTS: Registry[Act] = Registry("server.services.acts")
