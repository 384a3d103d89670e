"""A label approves the head of a stranger's change that had it set, if who set it may write to the repository now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from server.domain.events import ChangeProposed, LabelSet
from server.domain.repository_rules import InvalidRules
from server.services.acts import Acting, NothingToDo
from server.services.acts._pulls import Pull, is_robot
from server.services.ruling import rules_for
from server.store import change_heads


async def approve_by_label(acting: Acting, pull: Pull, said: LabelSet | ChangeProposed) -> None:
    """The head that the event names is approved. Safe to call twice.

    Raises NothingToDo, with why, where the label does not do it: another head is there, it is another label, or who set
    it may not write. Raises TryLater.
    """
    if not pull.is_from_fork:
        raise NothingToDo("A label approves changes from forks; this one is none.")
    if not pull.now.is_open or pull.now.head_sha != said.head_sha:
        raise NothingToDo("The label was set on another commit than the present one.")
    try:
        rules = await rules_for(pull.reader, pull.now.base_ref)
    except InvalidRules as error:
        raise NothingToDo(str(error)) from None
    if rules.forks.label.casefold() not in map(str.casefold, said.labels):
        raise NothingToDo("This label starts nothing.")
    if is_robot(said.author) or not await pull.reader.may_write(said.author, said.author_id):
        raise NothingToDo("Who set the label may not write to the repository.")
    # The delivery says itself which head had the label; one that went and came back since is another event's.
    said_at = said.at or datetime.now(UTC)
    await change_heads.record_head(acting.db, pull.line, said.head_sha, made_at=said.at)
    approval = await change_heads.approve_head(
        acting.db,
        pull.line,
        said.head_sha,
        approval=f"label:{said.author_id}",
        approved_by=said.author,
        said_at=said_at + timedelta(seconds=1),  # a forge's times are whole seconds
    )
    if approval is None:
        raise NothingToDo("The commit was pushed again after the label was set.")
