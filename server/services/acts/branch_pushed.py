"""The default branch has a new head: the packages that it changed are run, as what later changes are compared with."""

from __future__ import annotations

from server.domain.change_heads import ref_line
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import BranchPushed
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._pulls import open_reader
from server.services.acts._refs import if_there, run_ref
from server.services.handling import TryLater
from server.store import change_heads


async def branch_pushed(acting: Acting, pushed: BranchPushed, delivery: ClaimedDelivery) -> Ended:
    """What was changed since the head before; after a forced push that left that one nowhere, every package."""
    if not pushed.is_default:
        raise NothingToDo("Only the default branch's pushes are tested; others are by their pull requests.")
    reader = await open_reader(acting, pushed, delivery)
    if await reader.branch_head(pushed.branch) != pushed.after:
        if delivery.attempts == 1:  # the forge's API may lag behind what it tells
            raise TryLater("The forge names another head than it delivered.")
        raise NothingToDo("A newer commit is there, which is tested by itself.")
    base_sha = await if_there(reader, pushed.before)
    line = ref_line(pushed.repository.forge, pushed.repository.id, pushed.branch)
    await change_heads.record_head(acting.db, line, pushed.after, made_at=None, base_sha=base_sha)

    async def is_current() -> bool:
        return await reader.branch_head(pushed.branch) == pushed.after

    return await run_ref(
        acting,
        reader,
        line,
        head_sha=pushed.after,
        base_sha=base_sha,
        cause="head",
        is_current=is_current,
    )


ACTS.register(BranchPushed.__name__, branch_pushed)
