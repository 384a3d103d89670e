"""A label is set on a stranger's change: if it is the one that approves, and its setter may write, that head is run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import LabelSet
from server.domain.repository_rules import InvalidRules
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._pulls import is_robot, look_at, open_reader, run_pull
from server.services.ruling import rules_for
from server.store import change_heads


async def label_set(acting: Acting, label: LabelSet, delivery: ClaimedDelivery) -> Ended:
    """The head that had the label set is approved; one that was pushed since is not."""
    try:
        return await _approved(acting, label, delivery)
    except NothingToDo:
        if label.proposed is None:
            raise
    return await ACTS[type(label.proposed).__name__](acting, label.proposed, delivery)


async def _approved(acting: Acting, label: LabelSet, delivery: ClaimedDelivery) -> Ended:
    reader = await open_reader(acting, label, delivery)
    pull = await look_at(reader, label.number)
    if not pull.is_from_fork:
        raise NothingToDo("A label approves changes from forks; this one is none.")
    if not pull.now.is_open or pull.now.head_sha != label.head_sha:
        raise NothingToDo("The label was set on another commit than the present one.")
    try:
        rules = await rules_for(reader, pull.now.base_ref)
    except InvalidRules as error:
        raise NothingToDo(str(error)) from None
    if rules.forks.label.casefold() not in map(str.casefold, label.labels):
        raise NothingToDo("This label starts nothing.")
    if is_robot(label.author) or not await reader.may_write(label.author, label.author_id):
        raise NothingToDo("Who set the label may not write to the repository.")
    # The delivery says itself which head had the label; one that went and came back since is another event's.
    said_at = label.at or datetime.now(UTC)
    await change_heads.record_head(acting.db, pull.line, label.head_sha, made_at=label.at)
    approval = await change_heads.approve_head(
        acting.db,
        pull.line,
        label.head_sha,
        approval=f"label:{label.author_id}",
        approved_by=label.author,
        said_at=said_at + timedelta(seconds=1),  # a forge's times are whole seconds
    )
    if approval is None:
        raise NothingToDo("The commit was pushed again after the label was set.")
    return await run_pull(acting, pull, cause=label.proposed.cause if label.proposed is not None else "head")


ACTS.register(LabelSet.__name__, label_set)
