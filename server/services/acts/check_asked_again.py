"""A check is asked for once more: what its commit was a head of is run again, whatever came of it before."""

from __future__ import annotations

from uuid import UUID

from server.domain.change_heads import ChangeLine
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import CheckAskedAgain
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._groups import is_there, run_group
from server.services.acts._pulls import is_robot, look_at, open_reader, run_pull
from server.services.acts._refs import TAG_REF, if_there, meant_by, run_ref
from server.services.change_jobs import Only
from server.services.fetching import Reader
from server.services.superseding import GROUP_GONE
from server.store import change_heads


async def check_asked_again(acting: Acting, asked: CheckAskedAgain, delivery: ClaimedDelivery) -> Ended:
    """Each time that it is asked is a run of its own, for people who may write to the repository.

    GitHub shows its buttons to them alone, but an App of anybody's may ask for a public repository's check in the name
    of somebody who only reads: https://docs.github.com/rest/checks/runs#rerequest-a-check-run
    """
    if is_robot(asked.author):
        raise NothingToDo("Programs command nothing here.")
    reader = await open_reader(acting, asked, delivery)
    if not await reader.may_write(asked.author, asked.author_id):
        raise NothingToDo("Who asked for the check may not write to the repository.")
    repository = reader.link.repository
    lines = await change_heads.lines_of_commit(
        acting.db, forge=repository.forge, repository_id=repository.id, head_sha=asked.head_sha
    )
    if not lines:
        raise NothingToDo("Nothing is known of this commit.")
    only = await _of_check(acting, reader, asked)
    ended = [await _again(acting, reader, line, asked, only) for line in lines]
    return Ended("handled", " ".join(one.reason for one in ended)[:1000])


async def _of_check(acting: Acting, reader: Reader, asked: CheckAskedAgain) -> Only | None:
    """The one package of the check; None where it is about the change as a whole, or about all of it."""
    try:
        job_id = UUID(asked.key)
    except ValueError:
        return None
    repository = reader.link.repository
    tested = await change_heads.read_tested(
        acting.db,
        job_id,
        account_id=reader.link.account_id,
        forge=repository.forge,
        repository_id=repository.id,
        head_sha=asked.head_sha,
    )
    if tested is None:
        return None
    return lambda touched: (touched.name, touched.suite_name) == (tested.package, tested.suite_name)


async def _again(acting: Acting, reader: Reader, line: ChangeLine, asked: CheckAskedAgain, only: Only | None) -> Ended:
    if (base_ref := reader.queue_base(line.ref)) is not None:
        if not await is_there(reader, line.ref, asked.head_sha):
            return Ended("ignored", GROUP_GONE)  # merged, it is the branch's own head
        return await run_group(
            acting, reader, branch=line.ref, base_ref=base_ref, head_sha=asked.head_sha, cause=asked.asked, only=only
        )
    if line.pull_request is None:
        # What has checks at this commit is what the push touched, or what the tag names.
        base_sha = await if_there(reader, await change_heads.read_base(acting.db, line, asked.head_sha))
        is_tag = line.ref.startswith(TAG_REF)
        return await run_ref(
            acting,
            reader,
            line,
            head_sha=asked.head_sha,
            base_sha=base_sha,
            cause=asked.asked,
            only=meant_by(line.ref.removeprefix(TAG_REF)) if only is None and is_tag else only,
            is_partial=only is not None,
        )
    pull = await look_at(reader, line.pull_request)
    is_present = pull.now.is_open and pull.now.head_sha == asked.head_sha
    return await run_pull(acting, pull, cause=asked.asked, head_sha=None if is_present else asked.head_sha, only=only)


ACTS.register(CheckAskedAgain.__name__, check_asked_again)
