"""A tag is pushed: the packages of its version are tested, and their results uploaded where the rules say so."""

from __future__ import annotations

from server.domain.change_heads import ref_line
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import TagPushed
from server.services.acts import ACTS, Acting, NothingToDo
from server.services.acts._pulls import open_reader
from server.services.acts._refs import TAG_REF, meant_by, run_ref
from server.services.handling import TryLater
from server.store import change_heads


async def tag_pushed(acting: Acting, pushed: TagPushed, delivery: ClaimedDelivery) -> Ended:
    """Packages whose version the tag names; all of them for a tag that names none. A tag that was moved since is the
    newer delivery's."""
    reader = await open_reader(acting, pushed, delivery)

    async def is_current() -> bool:
        return await reader.tag_object(pushed.tag) in (None, pushed.object_sha)

    if not await is_current():
        if delivery.attempts == 1:  # the forge's API may lag behind what it tells
            raise TryLater("The forge's tag names another commit than it delivered.")
        raise NothingToDo("The tag was moved, and is tested where it is now.")
    line = ref_line(pushed.repository.forge, pushed.repository.id, f"{TAG_REF}{pushed.tag}")
    await change_heads.record_head(acting.db, line, pushed.sha, made_at=None)
    return await run_ref(
        acting,
        reader,
        line,
        head_sha=pushed.sha,
        base_sha=None,
        cause="head",
        is_current=is_current,
        only=meant_by(pushed.tag),
        nothing=f"No package has the version that the tag {pushed.tag} names, so there is nothing to test.",
        job_cause="submit",
        may_upload=True,
    )


ACTS.register(TagPushed.__name__, tag_pushed)
