"""Links as they are kept: one is made by a proof, and what waits for its repository ends with it."""

from __future__ import annotations

from collections.abc import Collection

import asyncpg
import structlog

from server.domain.links import Link, NewLink, NotLinked
from server.services.announcing import announce
from server.store import links

log = structlog.get_logger()

ANOTHERS = "This repository is linked to another account. One account can have it; the other ends its link first."


async def link_repository(db: asyncpg.Pool, new: NewLink) -> bool:
    """Whether the repository is the account's now; False: it is another's, or linked by something better."""
    linked = await links.link_and_trust(db, new)
    for account_id in linked.untrusted:
        log.warning(
            "trust ended", forge=new.repository.forge, repository=new.repository.id, account=str(account_id),
            linked_to=str(new.account_id),
        )  # fmt: skip
    return linked.is_theirs


async def is_trusted_elsewhere(db: asyncpg.Pool, new: NewLink, *, issuer: str | None) -> bool:
    """Whether the workflows of the repository, as its owner has it now, act for another account than this.

    False where it is not sure whose tokens they show: numbers mean nothing at another server.
    """
    if issuer is None or new.owner_id is None:
        return False
    return await links.is_trusted_elsewhere(
        db, issuer=issuer, repository_id=new.repository.id, account_id=new.account_id, owner_id=new.owner_id
    )


async def keep_link(db: asyncpg.Pool, new: NewLink) -> Link:
    """The link as it is kept from now on. Raises NotLinked where the repository is another account's."""
    is_theirs = await link_repository(db, new)
    kept = await links.read_link(db, forge=new.repository.forge, repository_id=new.repository.id)
    if not is_theirs or kept is None:
        raise NotLinked(ANOTHERS)
    log.info("repository linked", forge=kept.forge, repository=kept.repository_id, account=str(kept.account_id))
    return kept.as_link()


async def end_links(db: asyncpg.Pool, *, forge: str, repository_ids: Collection[int], reason: str) -> None:
    """The repositories are nobody's; what waits for them ends with the reason, and nothing is told there."""
    if not repository_ids:
        return
    for ended in await links.end_links(db, forge=forge, repository_ids=repository_ids, reason=reason):
        log.info("link ended", forge=forge, repository=ended.repository_id, account=str(ended.account_id))
        jobs = await links.end_repository_jobs(
            db,
            account_id=ended.account_id,
            forge=forge,
            repository_id=ended.repository_id,
            message=f"{reason} The run was given back.",
        )
        await announce(db, jobs)
