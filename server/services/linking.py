"""Whose a repository is: by the App's installation, by a hook, or by the service's own settings.

What a delivery says of installations is a question and no answer: the forge's API is asked, or our own record (W18).
"""

from __future__ import annotations

from uuid import UUID

import asyncpg
import msgspec

from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.events import LinkChanged, Repository
from server.domain.links import KeptLink, Link, NewLink, NotLinked
from server.forges import FORGES, CannotRead
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater
from server.services.hook_links import change_by_hook, link_by_hook
from server.services.installations import (
    NOT_LINKED,
    change_installation,
    change_repositories,
    kept_or_default,
    read_default_account,
)
from server.services.link_records import end_links, keep_link
from server.store import hooks, links

NOBODYS = "No account is linked to this repository."
NOT_INSTALLED = "The App is not installed in this repository."
SUSPENDED = "The App's installation is suspended: its owner resumes it in the forge's settings."


async def find_link(
    db: asyncpg.Pool,
    access: ForgeAccess,
    repository: Repository,
    *,
    installation_id: int | None,
    hook_id: UUID | None,
) -> Link:
    """Whose the repository of a delivery is. `installation_id` stands in its body, and is not believed.

    Raises NotLinked, or TryLater while the forge cannot be asked.
    """
    if repository.forge not in FORGES:
        raise NotLinked("This version of the service knows no such forge.")
    try:
        if hook_id is not None:
            return await link_by_hook(db, access, repository, hook_id)
        return await _by_app_or_settings(db, access, repository, installation_id)
    except CannotRead as error:
        raise TryLater(str(error), seconds=error.seconds) from None


async def known_link(
    db: asyncpg.Pool, repository: Repository, *, installation_id: int | None, hook_id: UUID | None
) -> Link | None:
    """As `find_link`, by our own record alone, for when the forge cannot be asked. None where that does not fit."""
    kept = await links.read_link(db, forge=repository.forge, repository_id=repository.id)
    if kept is None or kept.is_suspended:
        return None
    if hook_id is None:
        return kept.as_link() if kept.hook_id is None and kept.installation_id == installation_id else None
    hook = await hooks.read_hook(db, hook_id)
    fits = hook is not None and hook.account_id == kept.account_id and hook.forge == kept.forge
    is_its_own = hook is not None and (kept.hook_id == hook_id or hook.place_id == repository.id)
    return kept.as_link() if fits and is_its_own else None


async def link_of_job(db: asyncpg.Pool, *, forge: str, repository_id: int, account_id: UUID) -> Link | None:
    """The link by which the account's job is reported; None where the service may not write, or not any more."""
    kept = await links.read_link(db, forge=forge, repository_id=repository_id)
    if kept is None or kept.account_id != account_id or kept.is_suspended or not kept.reports:
        return None
    return kept.as_link()


async def change_links(db: asyncpg.Pool, access: ForgeAccess, changed: LinkChanged, delivery: ClaimedDelivery) -> Ended:
    """What the forge tells of installations and repositories is true here, too. Raises TryLater."""
    try:
        if delivery.hook_id is not None:
            return await change_by_hook(db, changed, delivery.hook_id)
        if changed.word in ("renamed", "transferred", "deleted"):
            return await change_repositories(db, access, changed.repositories)
        return await change_installation(db, access, changed, forge=delivery.source)
    except NotLinked as error:
        return Ended("ignored", str(error))
    except CannotRead as error:
        raise TryLater(str(error), seconds=error.seconds) from None


async def _by_app_or_settings(
    db: asyncpg.Pool, access: ForgeAccess, repository: Repository, installation_id: int | None
) -> Link:
    kept = await links.read_link(db, forge=repository.forge, repository_id=repository.id)
    # What we know is enough where the delivery says nothing else: a token of it is given for this number alone.
    if kept is not None and kept.hook_id is None and kept.installation_id == installation_id:
        return await _usable(db, access, kept, repository)
    if await access.has_app(repository.forge):
        return await _by_app(db, access, repository, kept)
    return await _by_settings(db, access, repository)


async def _by_app(db: asyncpg.Pool, access: ForgeAccess, repository: Repository, kept: KeptLink | None) -> Link:
    found = await access.installation_of(repository.forge, repository.name)
    if found is None:
        raise NotLinked(NOT_INSTALLED)
    if kept is not None and kept.installation_id == found.id:
        return await _usable(db, access, kept, repository)
    if found.is_suspended:
        raise NotLinked(SUSPENDED)
    # That the name leads to this installation is not yet that the number does: GitHub gives no token for another's.
    try:
        await access.installation_token(repository.forge, found.id, repository_id=repository.id, right="read")
    except CannotRead as error:
        if error.retryable:
            raise
        raise NotLinked(NOT_INSTALLED) from None
    if kept is not None and kept.installation_id is not None:
        reason = "The repository belongs to another installation of the App now."
        await end_links(db, forge=repository.forge, repository_ids=[repository.id], reason=reason)
    installation = await kept_or_default(db, access, forge=repository.forge, found=found)
    if installation is None:
        raise NotLinked(NOT_LINKED)
    new = NewLink(
        repository=repository,
        account_id=installation.account_id,
        installation_id=found.id,
        owner_id=found.owner_id,
        issuer=access.issuer(repository.forge),
    )
    return await keep_link(db, new)


async def _by_settings(db: asyncpg.Pool, access: ForgeAccess, repository: Repository) -> Link:
    """A service for one account alone: what its own secret signs is that account's."""
    if access.default_account is None:
        raise NotLinked(NOBODYS)
    account = await read_default_account(db, access.default_account)
    reports = access.own_token(repository.forge) is not None
    return await keep_link(db, NewLink(repository=repository, account_id=account.id, reports=reports))


async def _usable(db: asyncpg.Pool, access: ForgeAccess, kept: KeptLink, repository: Repository) -> Link:
    if kept.is_suspended:
        raise NotLinked(SUSPENDED)
    if kept.name != repository.name:
        if not await _is_its_name(access, kept, repository.name):
            repository = msgspec.structs.replace(repository, name=kept.name)
        await links.rename_repository(db, forge=kept.forge, repository_id=kept.repository_id, name=repository.name)
    link = kept.as_link()
    return msgspec.structs.replace(link, repository=repository) if repository.default_branch else link


async def _is_its_name(access: ForgeAccess, kept: KeptLink, name: str) -> bool:
    """Whether the name leads to the installation now: an event of before a rename has the older one."""
    if not await access.has_app(kept.forge):
        return True
    try:
        found = await access.installation_of(kept.forge, name)
    except CannotRead as error:
        if error.is_elsewhere:
            return False
        raise
    return found is not None and found.id == kept.installation_id
