"""Whose a repository is: by the App's installation, by a hook, or by the service's own settings.

What a delivery says of installations is a question and no answer: the forge's API is asked, or our own record (W18).
"""

from __future__ import annotations

from uuid import UUID

import asyncpg
import structlog

from server.domain.accounts import Account
from server.domain.deliveries import ClaimedDelivery, Ended
from server.domain.errors import NotFound
from server.domain.events import LinkChanged, Repository
from server.domain.links import Installation, KeptLink, Link, NewLink, NotLinked
from server.forges import FORGES, CannotRead, Installed
from server.services.forge_access import ForgeAccess
from server.services.handling import TryLater
from server.store import accounts, links

log = structlog.get_logger()

NOBODYS = "No account is linked to this repository."
NOT_INSTALLED = "The App is not installed in this repository."
SUSPENDED = "The App's installation is suspended: its owner resumes it in the forge's settings."
ANOTHERS = "This repository is linked to another account. One account can have it; the other ends its link first."


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
            raise NotLinked("This hook is not known.")
        return await _by_app_or_settings(db, access, repository, installation_id)
    except CannotRead as error:
        raise TryLater(str(error), seconds=error.seconds) from None


async def link_of_job(db: asyncpg.Pool, *, forge: str, repository_id: int, account_id: UUID) -> Link | None:
    """The link by which the account's job is reported; None where the service may not write, or not any more."""
    kept = await links.read_link(db, forge=forge, repository_id=repository_id)
    if kept is None or kept.account_id != account_id or kept.is_suspended or not kept.reports:
        return None
    return kept.as_link()


async def change_links(db: asyncpg.Pool, access: ForgeAccess, changed: LinkChanged, delivery: ClaimedDelivery) -> Ended:
    """What the forge tells of installations and repositories is true here, too. Raises TryLater."""
    return Ended("ignored", "No account is linked to this installation.")


async def link_installation(
    db: asyncpg.Pool, access: ForgeAccess, *, forge: str, installation_id: int, account_id: UUID, proof: str
) -> Installation:
    """The installation is the account's, as are the repositories that it has. Safe to call twice.

    Raises NotLinked where there is none, or it is another's, and CannotRead.
    """
    found = await access.installation(forge, installation_id)
    if found is None:
        raise NotLinked("The forge knows no such installation of this service's App.")
    return await _keep_installation(db, forge=forge, found=found, account_id=account_id, proof=proof)


async def link_for_account(
    db: asyncpg.Pool, access: ForgeAccess, *, forge: str, installation_id: int, account: str, proof: str
) -> Installation:
    """As `link_installation`, for an account by its name. Raises NotFound, too."""
    if forge not in FORGES:
        raise NotLinked(f"There is no forge {forge[:40]!r} here. Choose one of: {', '.join(FORGES)}.")
    found = await accounts.read_account(db, account)
    if found is None or not found.is_active:
        raise NotFound(f"There is no account named {account}.", code="account_not_found")
    return await link_installation(
        db, access, forge=forge, installation_id=installation_id, account_id=found.id, proof=proof
    )


async def unlink_installation(db: asyncpg.Pool, *, forge: str, installation_id: int, reason: str) -> bool:
    """Whether it was linked until now; its repositories' links have ended with it. `reason` is a sentence."""
    was_linked = await links.remove_installation(db, forge=forge, installation_id=installation_id)
    numbers = await links.list_installation_links(db, forge=forge, installation_id=installation_id)
    await links.end_links(db, forge=forge, repository_ids=numbers, reason=reason)
    return was_linked


async def _by_app_or_settings(
    db: asyncpg.Pool, access: ForgeAccess, repository: Repository, installation_id: int | None
) -> Link:
    kept = await links.read_link(db, forge=repository.forge, repository_id=repository.id)
    # What we know is enough where the delivery says nothing else: a token of it is given for this number alone.
    if kept is not None and kept.hook_id is None and kept.installation_id == installation_id:
        return await _usable(db, kept, repository)
    if await access.app_keys(repository.forge) is not None:
        return await _by_app(db, access, repository, kept)
    return await _by_settings(db, access, repository)


async def _by_app(db: asyncpg.Pool, access: ForgeAccess, repository: Repository, kept: KeptLink | None) -> Link:
    found = await access.installation_of(repository.forge, repository.name)
    if found is None:
        raise NotLinked(NOT_INSTALLED)
    if kept is not None and kept.installation_id == found.id:
        return await _usable(db, kept, repository)
    installation = await _installation_of(db, access, repository.forge, found)
    if installation is None:
        raise NotLinked("No account is linked to this installation.")
    if found.is_suspended or installation.suspended_at is not None:
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
        await links.end_links(db, forge=repository.forge, repository_ids=[repository.id], reason=reason)
    new = NewLink(
        repository=repository,
        account_id=installation.account_id,
        installation_id=found.id,
        owner_id=found.owner_id,
    )
    return await _link(db, new)


async def _installation_of(db: asyncpg.Pool, access: ForgeAccess, forge: str, found: Installed) -> Installation | None:
    """As it is kept; one that nobody linked is the default account's, if there is one."""
    kept = await links.read_installation(db, forge=forge, installation_id=found.id)
    if kept is not None or access.default_account is None:
        return kept
    account = await _default_account(db, access.default_account)
    return await _keep_installation(db, forge=forge, found=found, account_id=account.id, proof="settings")


async def _keep_installation(
    db: asyncpg.Pool, *, forge: str, found: Installed, account_id: UUID, proof: str
) -> Installation:
    is_theirs = await links.link_installation(
        db,
        forge=forge,
        installation_id=found.id,
        account_id=account_id,
        owner_id=found.owner_id,
        owner=found.owner,
        proof=proof,
        is_suspended=found.is_suspended,
    )
    kept = await links.read_installation(db, forge=forge, installation_id=found.id)
    if not is_theirs or kept is None:
        raise NotLinked("This installation is linked to another account, which ends that first.")
    log.info("installation linked", forge=forge, installation=found.id, account=str(account_id), proof=proof)
    return kept


async def _by_settings(db: asyncpg.Pool, access: ForgeAccess, repository: Repository) -> Link:
    """A service for one account alone: what its own secret signs is that account's."""
    if access.default_account is None:
        raise NotLinked(NOBODYS)
    account = await _default_account(db, access.default_account)
    reports = access.own_token(repository.forge) is not None
    return await _link(db, NewLink(repository=repository, account_id=account.id, reports=reports))


async def _default_account(db: asyncpg.Pool, name: str) -> Account:
    account = await accounts.read_account(db, name)
    if account is None or not account.is_active:
        raise NotLinked("PRPM_WEBHOOK_ACCOUNT names no account. `prpm-testing account create` makes one.")
    return account


async def _link(db: asyncpg.Pool, new: NewLink) -> Link:
    is_theirs = await links.link_repository(db, new)
    kept = await links.read_link(db, forge=new.repository.forge, repository_id=new.repository.id)
    if not is_theirs or kept is None:
        raise NotLinked(ANOTHERS)
    log.info("repository linked", forge=kept.forge, repository=kept.repository_id, account=str(kept.account_id))
    return kept.as_link()


async def _usable(db: asyncpg.Pool, kept: KeptLink, repository: Repository) -> Link:
    if kept.is_suspended:
        raise NotLinked(SUSPENDED)
    if kept.name != repository.name:  # an event of before a rename sets it back until the next one
        await links.rename_repository(db, forge=kept.forge, repository_id=kept.repository_id, name=repository.name)
    link = kept.as_link()
    return Link(
        forge=link.forge,
        repository=repository if repository.default_branch else link.repository,
        account_id=link.account_id,
        account=link.account,
        installation_id=link.installation_id,
        hook_id=link.hook_id,
        reports=link.reports,
    )
