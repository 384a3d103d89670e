"""A pull or merge request is opened, pushed to, reopened, ready, or for another branch: its head is tested against
its base.

Deliveries come late and out of order, a storm's by the thousand. One whose head was replaced ends by our own record,
and whoever finds a head that nobody told of yet tests it at once: the newest waits for none of the others.
"""

from __future__ import annotations

import contextlib
from typing import Final

from server.domain.change_heads import pull_line
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import ChangeProposed
from server.forges import Proposed
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._approving import approve_by_label
from server.services.acts._pulls import CLOSED, Pull, leave_other_branches, look_at, open_reader, run_pull
from server.services.handling import TryLater
from server.services.turns import turn_on
from server.store import change_heads

# A forge's API may lag behind what it tells; after that, another head is a newer one.
TRIES_FOR_LAG: Final = 1
NEWER: Final = "A newer commit is there, which is tested by itself."
# So long a look at the forge is good for those whose head was replaced before it. It is also how long the newest head
# waits at most while deliveries of older ones are handled.
SEEN_SECONDS: Final = 2.0
# Heads that one handler tests in turn while pushes go on; its time is bounded as well.
MOST_FOLLOWED: Final = 10


async def change_proposed(acting: Acting, proposed: ChangeProposed, delivery: ClaimedDelivery) -> Ended:
    """The present head is tested, if it is the delivered one or one that nobody told of."""
    reader = await open_reader(acting, proposed, delivery)
    repository = reader.link.repository
    line = pull_line(repository.forge, repository.id, proposed.number)
    at, head = proposed.at, proposed.head_sha
    # An earlier attempt of ours may have noted the newer head, and ended before it was tested: so that is looked at.
    is_first = delivery.attempts == 1
    if is_first and at and await change_heads.was_replaced(acting.db, line, head, at=at, seen_seconds=SEEN_SECONDS):
        raise NothingToDo(NEWER)
    pull = await look_at(reader, proposed.number)
    if not pull.now.is_open:
        raise NothingToDo(CLOSED)
    if pull.now.head_sha == head:
        await _require_base(acting, pull, proposed)
        await change_heads.record_head(acting.db, line, head, made_at=at, shown_at=at)
        if proposed.labels:
            with contextlib.suppress(NothingToDo):
                await approve_by_label(acting, pull, proposed)
        return await _run_newest(acting, pull, cause=proposed.cause)
    if not _is_newer(pull.now, proposed):
        if delivery.attempts <= TRIES_FOR_LAG:
            raise TryLater("The forge names another head than it delivered.")
        raise NothingToDo(NEWER)
    if not await _is_first_to_see(acting, pull) and not await _was_left(acting, pull, delivery):
        raise NothingToDo(NEWER)
    return await _run_newest(acting, pull, cause="head")


async def _require_base(acting: Acting, pull: Pull, proposed: ChangeProposed) -> None:
    """Raises NothingToDo for one that was moved to another branch since it was told of."""
    if proposed.action == "reopened":  # it may have been moved while it was closed
        await _leave_other_branches(acting, pull)
    if proposed.action != "retargeted":
        return
    if pull.now.base_ref != proposed.base_ref:
        raise NothingToDo("It is for yet another branch by now, which is tested by itself.")
    await _leave_other_branches(acting, pull)
    # Who wrote it chooses the branch: each time would be one more run of what was approved once.
    await change_heads.end_approvals(acting.db, pull.line)


async def _leave_other_branches(acting: Acting, pull: Pull) -> None:
    async with turn_on(acting.db, pull.line):  # whoever submits it for the branch before is done first
        await leave_other_branches(acting, pull)


def _is_newer(now: Proposed, told: ChangeProposed) -> bool:
    """Whether what the forge shows came after what it told: then it does not lag. Both are of its own clock."""
    return now.at is not None and told.at is not None and now.at > told.at


async def _is_first_to_see(acting: Acting, pull: Pull) -> bool:
    """Whether this head is ours to test, as nobody told of it yet. A stranger's waits for its own delivery, whose
    moment counts for approvals."""
    if pull.is_from_fork:
        return False
    return await change_heads.record_head(
        acting.db, pull.line, pull.now.head_sha, made_at=pull.now.at, shown_at=pull.now.at
    )


async def _was_left(acting: Acting, pull: Pull, delivery: ClaimedDelivery) -> bool:
    """Whether an earlier attempt of this delivery may have begun with the head, and ended without a test of it."""
    if delivery.attempts == 1 or pull.is_from_fork:
        return False
    link = pull.reader.link
    return not await change_heads.has_job(
        acting.db,
        account_id=link.account_id,
        forge=link.forge,
        repository_id=link.repository.id,
        head_sha=pull.now.head_sha,
    )


async def _run_newest(acting: Acting, pull: Pull, *, cause: str) -> Ended:
    """The pull request's head is run, and where it was replaced meanwhile the one that took its place."""
    for left in reversed(range(MOST_FOLLOWED)):
        ended = await run_pull(acting, pull, cause=cause, drafts=False)
        # Whoever sees a head first has to run it, so the last of ours looks for none.
        if ended.state != "ignored" or not left:
            break
        pull = await look_at(pull.reader, pull.now.number)
        if not pull.now.is_open or not await _is_first_to_see(acting, pull):
            break
        cause = "head"
    return ended


ACTS.register(ChangeProposed.__name__, change_proposed)
