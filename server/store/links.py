"""Links in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

import asyncpg

from server.domain.links import Installation, KeptLink, NewLink, StoredApp
from server.store.queries import read_queries

SQL = read_queries("links")


class EndedLink(NamedTuple):
    """A repository that is nobody's now, and whose it was."""

    repository_id: int
    account_id: UUID


async def read_link(db: asyncpg.Pool, *, forge: str, repository_id: int) -> KeptLink | None:
    """The repository's live link."""
    row = await db.fetchrow(SQL["read_link"], forge, repository_id)
    return KeptLink(**row) if row else None


async def list_links(db: asyncpg.Pool, account_id: UUID | None) -> list[KeptLink]:
    """Live links, of the account or of all."""
    return [KeptLink(**row) for row in await db.fetch(SQL["list_links"], account_id)]


async def list_installation_links(db: asyncpg.Pool, *, forge: str, installation_id: int) -> set[int]:
    """Numbers of the repositories that are linked by the installation."""
    return {row["repository_id"] for row in await db.fetch(SQL["list_installation_links"], forge, installation_id)}


class Linked(NamedTuple):
    """`is_theirs` False: it is another account's, or linked by something better. `untrusted`: whose trust has ended."""

    is_theirs: bool
    untrusted: tuple[UUID, ...] = ()


async def link_repository(db: asyncpg.Pool, new: NewLink) -> bool:
    """As `link_and_trust`, for who does not ask whose trust ended."""
    return (await link_and_trust(db, new)).is_theirs


async def link_and_trust(db: asyncpg.Pool, new: NewLink) -> Linked:
    """Linked, and trusted where an issuer is named; whoever else was is trusted no more. Safe to call twice."""
    repository = new.repository
    async with db.acquire() as connection, connection.transaction():
        found = await connection.fetchval(
            SQL["link_repository"],
            repository.forge, repository.id, new.account_id, new.installation_id, new.hook_id, new.owner_id,
            repository.name, repository.default_branch, new.reports,
        )  # fmt: skip
        if found is None or new.issuer is None or new.owner_id is None:
            return Linked(found is not None)
        ended = await connection.fetch(SQL["end_others_trust"], new.issuer, repository.id, new.account_id)
        await connection.execute(
            SQL["trust_link"],
            new.account_id,
            new.issuer,
            repository.forge,
            repository.id,
            new.owner_id,
            repository.name,
        )
        return Linked(True, tuple(row["account_id"] for row in ended))


async def is_trusted_elsewhere(
    db: asyncpg.Pool, *, issuer: str, repository_id: int, account_id: UUID, owner_id: int
) -> bool:
    """Whether another account's runs are what the repository's workflows start."""
    found: bool = await db.fetchval(SQL["is_trusted_elsewhere"], issuer, repository_id, account_id, owner_id)
    return found


async def rename_repository(db: asyncpg.Pool, *, forge: str, repository_id: int, name: str) -> None:
    """It has this name from now on."""
    await db.execute(SQL["rename_repository"], forge, repository_id, name)


async def end_links(db: asyncpg.Pool, *, forge: str, repository_ids: Iterable[int], reason: str) -> list[EndedLink]:
    """Those that were linked until now."""
    rows = await db.fetch(SQL["end_links"], forge, list(repository_ids), reason)
    return [EndedLink(**row) for row in rows]


async def end_repository_jobs(
    db: asyncpg.Pool, *, account_id: UUID, forge: str, repository_id: int, message: str
) -> list[UUID]:
    """Jobs that waited for the repository, and have failed now."""
    rows = await db.fetch(SQL["end_repository_jobs"], account_id, forge, repository_id, message)
    return [row["id"] for row in rows]


async def read_installation(db: asyncpg.Pool, *, forge: str, installation_id: int) -> Installation | None:
    """None for one that is no account's."""
    row = await db.fetchrow(SQL["read_installation"], forge, installation_id)
    return Installation(**row) if row else None


async def list_installations(db: asyncpg.Pool, account_id: UUID | None) -> list[Installation]:
    """Of the account, or of all."""
    return [Installation(**row) for row in await db.fetch(SQL["list_installations"], account_id)]


async def link_installation(
    db: asyncpg.Pool,
    *,
    forge: str,
    installation_id: int,
    account_id: UUID,
    owner_id: int | None,
    owner: str,
    proof: str,
    is_suspended: bool,
) -> bool:
    """Linked. False: it is another account's. Safe to call twice."""
    found = await db.fetchval(
        SQL["link_installation"], forge, installation_id, account_id, owner_id, owner, proof, is_suspended
    )
    return found is not None


async def suspend_installation(db: asyncpg.Pool, *, forge: str, installation_id: int) -> bool:
    """Whether there is such an installation; it does nothing until it is resumed."""
    return await db.fetchval(SQL["suspend_installation"], forge, installation_id) is not None


async def resume_installation(db: asyncpg.Pool, *, forge: str, installation_id: int) -> bool:
    """Whether there is such an installation."""
    return await db.fetchval(SQL["resume_installation"], forge, installation_id) is not None


async def remove_installation(db: asyncpg.Pool, *, forge: str, installation_id: int) -> bool:
    """Whether it was linked until now."""
    return await db.fetchval(SQL["remove_installation"], forge, installation_id) is not None


async def read_app(db: asyncpg.Pool, forge: str) -> StoredApp | None:
    """The App that was made here, if one was."""
    row = await db.fetchrow(SQL["read_app"], forge)
    return StoredApp(**row) if row else None
