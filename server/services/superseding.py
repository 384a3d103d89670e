"""A newer head of a change: what waits or runs for an older one is over."""

from __future__ import annotations

import asyncpg
import structlog

from server.services.announcing import announce
from server.store import jobs
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

SUPERSEDED = "superseded"
BEFORE_A_VERDICT = "A newer commit of this change was submitted before this test had a verdict. The run was given back."
WHILE_IT_RAN = "A newer commit of this change was submitted while this test ran; what was found so far is kept."
MOST_HEADS = 100


async def supersede(db: asyncpg.Pool) -> int:
    """How many jobs of older heads are over now, or will be when their workers look, within two seconds.

    Safe to call at any time. Raises what asyncpg does; then nothing was done, and the next call does it.
    """
    ended = await jobs.supersede_jobs(db, most=MOST_HEADS, message=BEFORE_A_VERDICT)
    if ended:
        log.info("jobs superseded", jobs=len(ended))
        await announce(db, ended)
    return len(ended)


async def supersede_soon(db: asyncpg.Pool) -> None:
    """As `supersede`, but what fails is left to the workers' sweep: a submit that was accepted stays accepted."""
    try:
        await supersede(db)
    except DATABASE_TROUBLE as error:
        log.warning("older heads not ended", reason=type(error).__name__)
