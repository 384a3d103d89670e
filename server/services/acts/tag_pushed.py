"""A tag is pushed: the packages of its version are tested, and their results uploaded where the rules say so."""

from __future__ import annotations

from server.domain.change_heads import ref_line
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import TagPushed
from server.services.acts import ACTS, Acting
from server.services.acts._pulls import open_reader
from server.services.acts._refs import TAG_REF, meant_by, run_ref
from server.store import change_heads


async def tag_pushed(acting: Acting, pushed: TagPushed, delivery: ClaimedDelivery) -> Ended:
    """Packages whose version the tag names; all of them for a tag that names none."""
    reader = await open_reader(acting, pushed, delivery)
    line = ref_line(pushed.repository.forge, pushed.repository.id, f"{TAG_REF}{pushed.tag}")
    await change_heads.record_head(acting.db, line, pushed.sha, made_at=None)
    return await run_ref(
        acting,
        reader,
        line,
        head_sha=pushed.sha,
        base_sha=None,
        cause="head",
        only=meant_by(pushed.tag),
        nothing=f"No package has the version that the tag {pushed.tag} names, so there is nothing to test.",
        job_cause="submit",
        may_upload=True,
    )


ACTS.register(TagPushed.__name__, tag_pushed)
