"""A merge queue wants its checks on a group of changes: what the group touches is tested at its head."""

from __future__ import annotations

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import GroupFormed
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._groups import is_there, run_group
from server.services.acts._pulls import open_reader
from server.services.handling import TryLater
from server.services.superseding import GROUP_GONE


async def group_formed(acting: Acting, group: GroupFormed, delivery: ClaimedDelivery) -> Ended:
    """Whatever the delivery names: the forge has to have the group at this head."""
    reader = await open_reader(acting, group, delivery)
    if not await is_there(reader, group.branch, group.head_sha):
        if delivery.attempts == 1:  # the forge's API may lag behind what it tells
            raise TryLater("The forge does not show the group that it delivered.")
        raise NothingToDo(GROUP_GONE)
    return await run_group(
        acting, reader, branch=group.branch, base_ref=group.base_ref, head_sha=group.head_sha, cause="head"
    )


ACTS.register(GroupFormed.__name__, group_formed)
