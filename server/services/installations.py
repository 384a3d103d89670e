"""Installations of the service's App: whose they are, and which repositories they have, by the forge's word of now.

Deliveries come late and in any order, so none of them is taken at its word: it only makes us ask.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import asyncpg
import structlog

from server.domain.accounts import Account
from server.domain.deliveries import Ended
from server.domain.errors import NotFound
from server.domain.events import LinkChanged, Repository
from server.domain.links import Installation, NewLink, NotLinked
from server.forges import FORGES, CannotRead, Installed
from server.services.forge_access import ForgeAccess
from server.services.link_records import end_links, link_repository
from server.store import accounts, links

log = structlog.get_logger()

NOT_LINKED = "No account is linked to this installation."


async def link_installation(
    db: asyncpg.Pool, access: ForgeAccess, *, forge: str, installation_id: int, account_id: UUID, proof: str
) -> Installation:
    """The installation is the account's, as are the repositories that it has. Safe to call twice.

    Raises NotLinked where there is none, or it is another's, and CannotRead.
    """
    found = await access.installation(forge, installation_id)
    if found is None:
        raise NotLinked("The forge knows no such installation of this service's App.")
    kept = await keep_installation(db, forge=forge, found=found, account_id=account_id, proof=proof)
    if kept.suspended_at is None:
        await link_repositories(db, access, kept)
    return kept


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


async def keep_installation(
    db: asyncpg.Pool, *, forge: str, found: Installed, account_id: UUID, proof: str
) -> Installation:
    """The installation as it is kept from now on. Raises NotLinked for another account's."""
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


async def kept_or_default(
    db: asyncpg.Pool, access: ForgeAccess, *, forge: str, found: Installed
) -> Installation | None:
    """As it is kept; one that nobody linked is the default account's, if there is one. Raises NotLinked."""
    kept = await links.read_installation(db, forge=forge, installation_id=found.id)
    if kept is not None or access.default_account is None:
        return kept
    account = await read_default_account(db, access.default_account)
    return await keep_installation(db, forge=forge, found=found, account_id=account.id, proof="settings")


async def read_default_account(db: asyncpg.Pool, name: str) -> Account:
    """Whose everything is in a service for one account. Raises NotLinked."""
    account = await accounts.read_account(db, name)
    if account is None or not account.is_active:
        raise NotLinked("PRPM_WEBHOOK_ACCOUNT names no account. `prpm-testing account create` makes one.")
    return account


async def link_repositories(db: asyncpg.Pool, access: ForgeAccess, installation: Installation) -> int:
    """How many repositories the installation has now: they are linked, and what it has no more is not.

    Raises CannotRead.
    """
    forge = installation.forge
    listed = await access.repositories(forge, installation.installation_id)
    for repository, owner_id in listed.repositories:
        new = NewLink(
            repository=repository,
            account_id=installation.account_id,
            installation_id=installation.installation_id,
            owner_id=owner_id,
            issuer=access.issuer(forge),
        )
        if not await link_repository(db, new):
            log.warning("repository is another account's", forge=forge, repository=repository.id)
    if listed.is_whole:
        had = await links.list_installation_links(db, forge=forge, installation_id=installation.installation_id)
        gone = had - {repository.id for repository, _ in listed.repositories}
        await end_links(db, forge=forge, repository_ids=gone, reason="The App was removed from the repository.")
    return len(listed.repositories)


async def unlink_installation(db: asyncpg.Pool, *, forge: str, installation_id: int, reason: str) -> bool:
    """Whether it was linked until now; its repositories' links have ended with it. `reason` is a sentence."""
    was_linked = await links.remove_installation(db, forge=forge, installation_id=installation_id)
    numbers = await links.list_installation_links(db, forge=forge, installation_id=installation_id)
    await end_links(db, forge=forge, repository_ids=numbers, reason=reason)
    return was_linked


async def change_installation(db: asyncpg.Pool, access: ForgeAccess, changed: LinkChanged, *, forge: str) -> Ended:
    """An installation came, went, was suspended or resumed, or has other repositories.

    Raises NotLinked, and CannotRead.
    """
    if changed.installation_id is None or FORGES[forge].app is None:
        return Ended("invalid", "The payload names no installation.")
    number = changed.installation_id
    found = await access.installation(forge, number)
    if found is None:
        access.forget_installation(forge, number)
        reason = "The App was uninstalled."
        was_linked = await unlink_installation(db, forge=forge, installation_id=number, reason=reason)
        return Ended("handled", reason) if was_linked else Ended("ignored", NOT_LINKED)
    kept = await kept_or_default(db, access, forge=forge, found=found)
    if kept is None:
        return Ended("ignored", f"{NOT_LINKED} One of its admins links it on this service's set-up page.")
    if found.is_suspended:
        access.forget_installation(forge, number)
        await links.suspend_installation(db, forge=forge, installation_id=number)
        return Ended("handled", "The App's installation is suspended.")
    await links.resume_installation(db, forge=forge, installation_id=number)
    count = await link_repositories(db, access, kept)
    return Ended("handled", f"{kept.account} has {count} {'repository' if count == 1 else 'repositories'} here.")


async def change_repositories(db: asyncpg.Pool, access: ForgeAccess, repositories: Iterable[Repository]) -> Ended:
    """Repositories have another name or owner, or are gone. Raises CannotRead."""
    said = [sentence for one in repositories if (sentence := await _change_repository(db, access, one))]
    return Ended("handled", " ".join(said)) if said else Ended("ignored", "No account is linked to this repository.")


async def _change_repository(db: asyncpg.Pool, access: ForgeAccess, repository: Repository) -> str:
    forge = repository.forge
    kept = await links.read_link(db, forge=forge, repository_id=repository.id)
    if kept is None or kept.installation_id is None:
        return ""
    found = await access.installation_of(forge, repository.name)
    if found is not None and found.id == kept.installation_id and await _has(access, forge, found.id, repository.id):
        await links.rename_repository(db, forge=forge, repository_id=repository.id, name=repository.name)
        return "The repository's name is up to date."
    reason = "The repository was deleted, or given to another owner. It is linked anew there."
    await end_links(db, forge=forge, repository_ids=[repository.id], reason=reason)
    return reason


async def _has(access: ForgeAccess, forge: str, installation_id: int, repository_id: int) -> bool:
    """Whether the installation has the repository now: a name may lead to another one by now."""
    access.forget_installation(forge, installation_id)
    try:
        await access.installation_token(forge, installation_id, repository_id=repository_id, right="read")
    except CannotRead as error:
        if error.retryable:
            raise
        return False
    return True
