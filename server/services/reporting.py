"""A forge is shown what is no job: a change that waits for somebody, a configuration that cannot be read, and such."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import asyncpg
import msgspec

from notifiers._report import MOST_LINES
from notifiers._text import cut, one_line
from server.domain.changes import Change
from server.domain.links import Link
from server.domain.reporting import CheckState, State
from server.store import outbox

TITLE_CHARS = 255


async def report_state(
    db: asyncpg.Pool,
    link: Link,
    *,
    change: Change,
    package: str | None,
    suite_name: str,
    state: State,
    title: str,
    summary: str,
) -> None:
    """The check of this commit, package and suite shows the state from soon on, whatever it showed before.

    It blocks where it is `failure` or `action_required`, lets pass where it is `neutral`, and is waited for where it is
    `queued`. A job of the same commit, package and suite takes its place; one without a package is replaced by the next
    state of its suite. Safe to call twice: the same again changes nothing. Where the service may not write at the
    forge nobody is told. Raises what asyncpg does.
    """
    if not link.reports:
        return
    said = CheckState(
        change=change,
        package=package,
        suite_name=suite_name,
        state=state,
        title=cut(one_line(title), TITLE_CHARS),
        summary="\n".join(one_line(line) for line in summary.splitlines()[:MOST_LINES]),
        at=datetime.now(UTC),
    )
    await outbox.report_state(
        db,
        dedupe_key=check_key(change, package=package, suite_name=suite_name),
        account_id=link.account_id,
        facts=msgspec.json.encode(said).decode(),
    )


async def was_reported(db: asyncpg.Pool, change: Change, *, package: str | None, suite_name: str) -> bool:
    """Whether the check of this commit, package and suite has shown a state."""
    return await outbox.was_told(db, check_key(change, package=package, suite_name=suite_name))


def check_key(change: Change, *, package: str | None, suite_name: str) -> str:
    """Names the row of one check: forge, repository, commit, package and suite."""
    named = [change.forge, change.repository_id, change.head_sha, package, suite_name]
    return f"state:{hashlib.sha256(msgspec.json.encode(named)).hexdigest()}"
