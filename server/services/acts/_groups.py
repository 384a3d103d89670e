"""What acts on groups of a merge queue share: whether the queue still has the group, and the run of it.

A group is compared with the branch that it is to be merged into, and judged by that branch's rules. Its delivery names
the group ahead of it as its base: that is no part of the branch yet, and in some queues is merged though it failed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from msgspec import UNSET

from server.domain.change_heads import ref_line
from server.domain.deliveries import Ended
from server.domain.repository_rules import InvalidRules
from server.forges import CannotRead
from server.services.acts import Acting
from server.services.acts._pulls import broken_rules
from server.services.acts._refs import change_of
from server.services.change_jobs import Only, Order
from server.services.change_runs import refuse, refuse_rules, run_change
from server.services.fetching import Reader, TooMuch
from server.services.ruling import rules_for
from server.store import change_heads


async def is_there(reader: Reader, branch: str, head_sha: str) -> bool:
    """Whether the queue's branch ends in this commit now. Raises TryLater, and CannotRead for what is no answer."""
    try:
        return await reader.branch_head(branch) == head_sha
    except CannotRead as error:
        if error.status == 404:
            return False
        raise


async def run_group(
    acting: Acting, reader: Reader, *, branch: str, base_ref: str, head_sha: str, cause: str, only: Only | None = None
) -> Ended:
    """The packages in which the group differs from the branch that it is for are run at its head. Raises TryLater.

    Who queued it may write to the repository, so that nothing waits for an approval.
    """
    link = reader.link
    line = ref_line(link.forge, link.repository.id, branch)
    change = change_of(reader, line, head_sha=head_sha, base_sha=None, cause=cause)
    change = msgspec.structs.replace(change, base_ref=base_ref)
    try:
        rules = await rules_for(reader, base_ref)
        between = await reader.touched(await reader.branch_head(base_ref), head_sha)
    except InvalidRules as error:
        return await refuse_rules(acting, reader, change, error)
    except (CannotRead, TooMuch) as reason:
        return await refuse(acting, reader, change, title="The change cannot be read", reason=str(reason))
    await change_heads.record_head(acting.db, line, head_sha, made_at=None, base_sha=between.base_sha)
    order = Order(
        line=line,
        change=msgspec.structs.replace(change, base_sha=between.base_sha or UNSET),
        rules=rules,
        base_sha=between.base_sha,
        only=only,
        is_partial=only is not None,
        warning=await broken_rules(reader, head_sha),
        nothing="No package is touched by this group of changes, so there is nothing to test.",
    )
    return await run_change(acting, reader, order, is_current=_stays(reader, branch, head_sha))


def _stays(reader: Reader, branch: str, head_sha: str) -> Callable[[], Awaitable[bool]]:
    async def is_current() -> bool:
        return await is_there(reader, branch, head_sha)

    return is_current
