"""A newer head of a change came, or the change went: what waits or runs for it is over."""

from __future__ import annotations

import asyncpg
import structlog

from server.domain.change_heads import Gone
from server.domain.changes import Change
from server.domain.heads import with_left
from server.domain.links import Link
from server.services.announcing import announce
from server.services.reporting import report_head
from server.store import jobs
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

SUPERSEDED = "superseded"
BEFORE_A_VERDICT = "A newer commit of this change was submitted before this test had a verdict. The run was given back."
WHILE_IT_RAN = "A newer commit of this change was submitted while this test ran; what was found so far is kept."
MOST_HEADS = 100
OTHER_BASE = "The change is for another branch now."
GROUP_GONE = "The merge queue has no such group any more."


def before_a_verdict(unwanted: str | None) -> str:
    """What a job says that ended without a verdict; `unwanted`: why, where no newer head came."""
    return BEFORE_A_VERDICT if unwanted is None else f"{unwanted} The run was given back."


def while_it_ran(unwanted: str | None) -> str:
    """As `before_a_verdict`, of a job that had one."""
    return WHILE_IT_RAN if unwanted is None else f"{unwanted} What was found so far is kept."


async def let_go(db: asyncpg.Pool, link: Link, gone: Gone, *, head: Change, reason: str) -> int:
    """How many jobs of what went are over now, or will be when their workers look, within two seconds.

    They are given back as those of an older head, and the sum of the head's commit waits for them no more. Safe to call
    twice. Raises what asyncpg does.
    """
    ended = await jobs.let_go_jobs(db, link.account_id, gone, reason=reason, message=before_a_verdict(reason))
    # After the jobs, so that who dies in between does both once more.
    await report_head(db, link, head, changed=lambda known: with_left(known, gone.has, reason=reason))
    if ended:
        log.info("jobs let go", jobs=len(ended), reason=reason)
        await announce(db, ended)
    return len(ended)


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
