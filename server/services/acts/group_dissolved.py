"""A merge queue has let go of a group, whose changes were merged, taken out, or grouped anew: its tests are over."""

from __future__ import annotations

import msgspec

from server.domain.change_heads import Gone, ref_line
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import GroupDissolved
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._groups import is_there
from server.services.acts._pulls import open_reader
from server.services.acts._refs import change_of
from server.services.handling import TryLater
from server.services.superseding import GROUP_GONE, let_go
from server.services.turns import turn_on

# Of a group that is still there, what has no verdict lets pass on GitHub: so the forge has to show that it is gone.
TRIES_FOR_LAG = 2


async def group_dissolved(acting: Acting, group: GroupDissolved, delivery: ClaimedDelivery) -> Ended:
    """What waits or runs for exactly this head of the group ends, unless the forge still has it."""
    reader = await open_reader(acting, group, delivery)
    link = reader.link
    if await is_there(reader, group.branch, group.head_sha):
        if delivery.attempts <= TRIES_FOR_LAG:
            raise TryLater("The forge still shows the group that it let go.")
        raise NothingToDo("The merge queue still has this group.")
    line = ref_line(link.forge, link.repository.id, group.branch)
    change = change_of(reader, line, head_sha=group.head_sha, base_sha=None, cause="head")
    change = msgspec.structs.replace(change, base_ref=group.base_ref)
    gone = Gone(link.forge, link.repository.id, ref=group.branch, head_sha=group.head_sha)
    async with turn_on(acting.db, line):  # whoever submits its packages now is done first
        count = await let_go(acting.db, link, gone, head=change, reason=GROUP_GONE)
    return Ended("handled", f"{count} {'job' if count == 1 else 'jobs'} ended.")


ACTS.register(GroupDissolved.__name__, group_dissolved)
