"""A delivery that could not be handled to the end leaves no check open: the commit says so itself."""

from __future__ import annotations

from typing import Final

import asyncpg
from msgspec import UNSET

from server.domain.changes import DEFAULT_SUITE, Change, faults_of
from server.domain.deliveries import ClaimedDelivery
from server.domain.events import Event, Meaning, NamedHead, Repository
from server.services.linking import known_link
from server.services.reporting import report_state
from server.store import change_heads

TITLE: Final = "The tests were not started"
ADVICE: Final = (
    "It was tried for more than a day. Push again, or comment `/prpm test`; if it stays so, ask the operator."
)


async def give_up(db: asyncpg.Pool, meaning: Meaning, delivery: ClaimedDelivery, reason: str) -> None:
    """The check of the event's head says why nothing was tested, where the service may write there.

    No forge is asked: what is told waits for it. A head that was tested all the same is left alone. Safe to call twice.
    Raises what asyncpg does.
    """
    head = meaning.head if isinstance(meaning, Event) else None
    if not isinstance(meaning, Event) or head is None:
        return
    link = await known_link(db, meaning.repository, installation_id=meaning.installation_id, hook_id=delivery.hook_id)
    if link is None:
        return
    change = _change(link.repository, head)
    # What stands in a body is looked at before it is kept.
    if faults_of(change) or await change_heads.has_job(
        db, account_id=link.account_id, forge=link.forge, repository_id=link.repository.id, head_sha=head.sha
    ):
        return
    await report_state(
        db,
        link,
        change=change,
        package=None,
        suite_name=DEFAULT_SUITE,
        state="failure",
        title=TITLE,
        summary=f"{reason}\n{ADVICE}",
    )


def _change(repository: Repository, head: NamedHead) -> Change:
    return Change(
        forge=repository.forge,
        repository=repository.name,
        repository_id=repository.id,
        ref=head.ref,
        head_sha=head.sha,
        base_ref=head.base_ref or UNSET,
        pull_request=UNSET if head.pull_request is None else head.pull_request,
    )
