"""Somebody commands in a comment: `/prpm test [models]`, `/prpm cancel`, `/prpm help`.

Who may not write to the repository gets silence.
"""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import Final

from server.domain.accounts import Credential
from server.domain.changes import COMMENT_CAUSE
from server.domain.commands import Command, read_command
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.errors import Conflict, NotFound
from server.domain.events import CommentMade
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._pulls import CLOSED, HELP, Pull, is_robot, look_at, open_reader, run_pull
from server.services.cancelling import cancel
from server.services.change_jobs import Report
from server.services.change_runs import tell
from server.services.identity import read_caller
from server.store import change_heads

# A forge's clock and the database's may differ by so much.
CLOCKS_APART: Final = timedelta(seconds=30)
NEWER = "A newer commit came after the comment, so it was not approved: look at it, and comment again."


async def comment_made(acting: Acting, comment: CommentMade, delivery: ClaimedDelivery) -> Ended:
    """The command is carried out, if its author may write to the repository at this moment."""
    command = read_command(comment.text)
    if command is None:
        raise NothingToDo("The comment holds no command.")
    if is_robot(comment.author):
        raise NothingToDo("Programs command nothing here.")
    reader = await open_reader(acting, comment, delivery)
    if not await reader.may_write(comment.author, comment.author_id):
        raise NothingToDo("Who commented may not write to the repository.")
    pull = await look_at(reader, comment.number)
    match command.verb:
        case "test":
            return await _test(acting, pull, comment, command)
        case "cancel":
            return await _cancel(acting, pull, comment)
    # A check of its own, so that it never takes the place of one that blocks.
    report = Report(
        state="neutral", title="What can be said in comments", summary=HELP, package="commands", suite_name="help"
    )
    await tell(acting, reader, pull.change(cause=f"{COMMENT_CAUSE}{comment.comment_id}"), report)
    return Ended("handled", "The commands were listed.")


async def _test(acting: Acting, pull: Pull, comment: CommentMade, command: Command) -> Ended:
    if not pull.now.is_open:
        raise NothingToDo(CLOSED)
    cause = f"{COMMENT_CAUSE}{comment.comment_id}"
    if pull.is_from_fork:
        approval = await _approve(acting, pull, comment)
        if approval is None:
            change = pull.change(cause=cause)
            await tell(
                acting, pull.reader, change, Report(state="action_required", title="Waits for approval", summary=NEWER)
            )
            return Ended("handled", NEWER)
        # What approves a head starts its first run, and once more what was approved already.
        cause = "head" if approval == cause else cause
    return await run_pull(acting, pull, cause=cause, models=command.words or None)


async def _approve(acting: Acting, pull: Pull, comment: CommentMade) -> str | None:
    """What approves the present head; None where the comment may have meant an older one.

    A comment names no commit. It is for the head that was there before it, by the forge's own clock; one of the same
    second may have been pushed to be approved unseen.
    """
    if comment.at is None:
        return None
    approval = f"{COMMENT_CAUSE}{comment.comment_id}"
    approved = await change_heads.approve_head(
        acting.db,
        pull.line,
        pull.now.head_sha,
        approval=approval,
        approved_by=comment.author,
        said_at=comment.at,
    )
    if approved is None:
        # Of a head that nobody told of, nobody knows whether it was there: from now on it was.
        await change_heads.record_head(acting.db, pull.line, pull.now.head_sha, made_at=comment.at)
    return approved


async def _cancel(acting: Acting, pull: Pull, comment: CommentMade) -> Ended:
    """What was there when the comment was made; one that is delivered late ends nothing that came since."""
    link = pull.reader.link
    jobs = await change_heads.list_live_jobs(
        acting.db,
        account_id=link.account_id,
        forge=link.forge,
        repository_id=link.repository.id,
        pull_request=pull.now.number,
        until=comment.at + CLOCKS_APART if comment.at is not None else None,
    )
    caller = await read_caller(acting.db, Credential(account_id=link.account_id))
    for job_id in jobs:
        with contextlib.suppress(Conflict, NotFound):  # it ended meanwhile
            await cancel(acting.db, caller, job_id)
    return Ended("handled", f"{len(jobs)} {'job' if len(jobs) == 1 else 'jobs'} cancelled.")


ACTS.register(CommentMade.__name__, comment_made)
