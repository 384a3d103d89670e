"""What an event of a forge asks for is done: the file in `acts/` that is for its kind does it."""

from __future__ import annotations

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import LinkChanged, Meaning
from server.domain.links import NotLinked
from server.forges import CannotRead
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.fetching import TooMuch
from server.services.linking import change_links

__all__ = ["Acting", "act"]


async def act(acting: Acting, meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
    """What came of it. Raises TryLater."""
    if isinstance(meaning, LinkChanged):
        return await change_links(acting.db, acting.access, meaning, delivery)
    kind = type(meaning).__name__
    if kind not in ACTS:
        return Ended("ignored", "This kind of event starts nothing.")
    try:
        return await ACTS[kind](acting, meaning, delivery)
    except (NothingToDo, NotLinked, CannotRead, TooMuch) as reason:
        return Ended("ignored", str(reason))
