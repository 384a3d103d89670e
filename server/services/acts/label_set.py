"""A label is set on a stranger's change: if it is the one that approves, and its setter may write, that head is run."""

from __future__ import annotations

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import LabelSet
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._approving import approve_by_label
from server.services.acts._pulls import look_at, open_reader, run_pull


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
    await approve_by_label(acting, pull, label)
    return await run_pull(acting, pull, cause=label.proposed.cause if label.proposed is not None else "head")


ACTS.register(LabelSet.__name__, label_set)
