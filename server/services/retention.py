"""What is kept how long: one worker at a time removes what is too old, a batch after the other."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable

import asyncpg
import structlog
from msgspec import Struct

from server.store import retention
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

CHORE = "retention"
LOOK_SECONDS = 60.0
EVERY_SECONDS = 300.0
# Below EVERY_SECONDS by far, so that two never clean up at once.
BUDGET_SECONDS = 60.0
# A batch is one statement: none may hold its rows for longer than a moment.
ROWS_A_BATCH = 1000
UPLOADS_A_BATCH = 100


class Keep(Struct, frozen=True, kw_only=True):
    """Days for which things are kept after their last use. Jobs and the usage ledger are kept for good."""

    trials_days: int = 30
    outcomes_days: int = 365
    uploads_days: int = 90
    keys_days: int = 7
    events_days: int = 90  # far longer than any forge sends an event again
    history_days: int = 365  # what runs found, for runs that are compared with them
    outbox_days: int = 30
    deliveries_days: int = 30  # longer than a forge sends one again
    cache_days: int = 14  # since an answer was asked for, however often it was used


async def keep_clean(
    db: asyncpg.Pool, keep: Keep, *, look_seconds: float = LOOK_SECONDS, every_seconds: float = EVERY_SECONDS
) -> None:
    """Clean up whenever it is due and no other worker does, until cancelled."""
    while True:
        await asyncio.sleep(look_seconds)
        try:
            await clean_up(db, keep, every_seconds=every_seconds)
        except DATABASE_TROUBLE as error:
            log.warning("clean-up failed", reason=type(error).__name__)


async def clean_up(
    db: asyncpg.Pool,
    keep: Keep,
    *,
    every_seconds: float = EVERY_SECONDS,
    budget_seconds: float = BUDGET_SECONDS,
) -> dict[str, int] | None:
    """Rows removed, by what they were; None when it is not due or another worker has the turn.

    Ends after `budget_seconds` with whatever is left for the next time. Raises what asyncpg does; batches that were
    done stay done.
    """
    if not await retention.take_turn(db, CHORE, every_seconds=every_seconds):
        return None
    stop_at = time.monotonic() + budget_seconds
    removed = {
        name: await _in_batches(remove, most=most, stop_at=stop_at) for name, most, remove in _removals(db, keep)
    }
    if any(removed.values()):
        log.info("old rows removed", **removed)
    return removed


Removal = Callable[..., Awaitable[int]]


def _removals(db: asyncpg.Pool, keep: Keep) -> list[tuple[str, int, Removal]]:
    """Name, rows a batch, and what removes a batch of `most` rows."""
    return [
        ("trials", ROWS_A_BATCH, functools.partial(retention.delete_trials, db, days=keep.trials_days)),
        ("outcomes", ROWS_A_BATCH, functools.partial(retention.delete_outcomes, db, days=keep.outcomes_days)),
        ("uploads", UPLOADS_A_BATCH, functools.partial(retention.delete_uploads, db, days=keep.uploads_days)),
        (
            "idempotency_keys",
            ROWS_A_BATCH,
            functools.partial(retention.delete_idempotency_keys, db, days=keep.keys_days),
        ),
        ("completions", ROWS_A_BATCH, functools.partial(retention.delete_completions, db, days=keep.cache_days)),
        (
            "cached_outcomes",
            ROWS_A_BATCH,
            functools.partial(retention.delete_cached_outcomes, db, days=keep.cache_days),
        ),
        ("deliveries", ROWS_A_BATCH, functools.partial(retention.delete_deliveries, db, days=keep.deliveries_days)),
        ("change_heads", ROWS_A_BATCH, functools.partial(retention.delete_change_heads, db, days=keep.events_days)),
        ("change_turns", ROWS_A_BATCH, functools.partial(retention.delete_change_turns, db)),
        ("events", ROWS_A_BATCH, functools.partial(retention.delete_events, db, days=keep.events_days)),
        ("history", UPLOADS_A_BATCH, functools.partial(retention.delete_history, db, days=keep.history_days)),
        ("base_trials", ROWS_A_BATCH, functools.partial(retention.delete_base_trials, db, days=keep.trials_days)),
        ("body_hashes", ROWS_A_BATCH, functools.partial(retention.delete_body_hashes, db)),
        ("notifications", ROWS_A_BATCH, functools.partial(retention.delete_notifications, db, days=keep.outbox_days)),
        ("sessions", ROWS_A_BATCH, functools.partial(retention.delete_sessions, db)),
        ("oidc_exchanges", ROWS_A_BATCH, functools.partial(retention.delete_oidc_exchanges, db)),
    ]


async def _in_batches(remove: Removal, *, most: int, stop_at: float) -> int:
    removed = 0
    while time.monotonic() < stop_at:
        batch = await remove(most=most)
        removed += batch
        if batch < most:
            break
    return removed
