"""A forge is shown what is no job: a change that waits for somebody, a configuration that cannot be read, and such."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime

import asyncpg
import msgspec

from notifiers._report import MOST_LINES
from notifiers._text import cut, one_line
from server.domain.changes import Change
from server.domain.heads import Head, Said, with_word
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
    commit_status: bool | None = None,
    is_notable: bool = False,
) -> None:
    """The check of this commit, package and suite shows the state from soon on, whatever it showed before.

    It blocks where it is `failure` or `action_required`, lets pass where it is `neutral`, and is waited for where it is
    `queued`. A job of the same commit, package and suite takes its place. Without a package it is of the change as a
    whole, and part of the sum of its commit. Safe to call twice: the same again changes nothing. Where the service may
    not write at the forge nobody is told. `commit_status`: one beside the check; None where no rules say.
    `is_notable`: a comment, too, where there are no checks. Raises what asyncpg does.
    """
    if not link.reports:
        return
    said = said_of(state, title, summary)
    if package is None:
        at = datetime.now(UTC)
        await report_head(
            db, link, change, changed=lambda head: with_word(head, change, said, at=at, commit_status=commit_status)
        )
        return
    shown = CheckState(
        change=change,
        package=package,
        suite_name=suite_name,
        state=said.state,
        title=said.title,
        summary=said.summary,
        at=datetime.now(UTC),
        commit_status=bool(commit_status),
        is_notable=is_notable,
    )
    await outbox.report_state(
        db,
        dedupe_key=check_key(change, package=package, suite_name=suite_name),
        account_id=link.account_id,
        facts=msgspec.json.encode(shown).decode(),
    )


async def report_head(db: asyncpg.Pool, link: Link, change: Change, *, changed: Callable[[Head], Head | None]) -> None:
    """The check `prpm` of the change's commit shows soon what `changed` makes of what is known of it.

    Safe to call twice: None is nothing new. Where the service may not write at the forge nobody is told. Raises what
    asyncpg does.
    """
    if link.reports:
        await outbox.change_head(db, account_id=link.account_id, change=change, changed=changed)


def said_of(state: State, title: str, summary: str) -> Said:
    """As it is kept: in sizes that forges take."""
    lines = "\n".join(one_line(line) for line in summary.splitlines()[:MOST_LINES])
    return Said(state=state, title=cut(one_line(title), TITLE_CHARS), summary=lines)


def check_key(change: Change, *, package: str, suite_name: str) -> str:
    """Names the row of one check: forge, repository, commit, package and suite."""
    named = [change.forge, change.repository_id, change.head_sha, package, suite_name]
    return f"state:{hashlib.sha256(msgspec.json.encode(named)).hexdigest()}"
