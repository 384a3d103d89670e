"""A pull or merge request is opened, pushed to, reopened, ready, or for another branch: its head is tested against
its base."""

from __future__ import annotations

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import ChangeProposed
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._pulls import CLOSED, look_at, open_reader, run_pull
from server.services.handling import TryLater
from server.store import change_heads

# A forge's API may lag behind what it tells; after that, another head is a newer one.
TRIES_FOR_LAG = 1


async def change_proposed(acting: Acting, proposed: ChangeProposed, delivery: ClaimedDelivery) -> Ended:
    """The delivered head is tested if it is the present one: old deliveries come late, and out of order."""
    reader = await open_reader(acting, proposed, hook_id=delivery.hook_id)
    pull = await look_at(reader, proposed.number)
    if not pull.now.is_open:
        raise NothingToDo(CLOSED)
    if pull.now.head_sha != proposed.head_sha:
        if delivery.attempts <= TRIES_FOR_LAG:
            raise TryLater("The forge names another head than it delivered.")
        raise NothingToDo("A newer commit is there, which is tested by itself.")
    if proposed.action == "retargeted":
        if pull.now.base_ref != proposed.base_ref:
            raise NothingToDo("It is for yet another branch by now, which is tested by itself.")
        # Who wrote it chooses the branch: each time would be one more run of what was approved once.
        await change_heads.end_approvals(acting.db, pull.line)
    await change_heads.record_head(acting.db, pull.line, proposed.head_sha, made_at=proposed.at)
    return await run_pull(acting, pull, cause=proposed.cause, drafts=False)


ACTS.register(ChangeProposed.__name__, change_proposed)
