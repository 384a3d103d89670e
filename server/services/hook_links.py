"""What a webhook of its own may speak for: one repository, or those of its group, and its account's money alone.

Whoever has a hook can make deliveries for it, and say in them what they like. So the hook's record decides, and where
it has a token, the forge.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

from server.domain.deliveries import Ended
from server.domain.events import LinkChanged, Repository
from server.domain.links import Hook, KeptLink, Link, NewLink, NotLinked
from server.forges import FORGES, CannotRead, Proven
from server.services.forge_access import ForgeAccess
from server.services.hooks import end_hook
from server.services.link_records import ANOTHERS, end_links, is_trusted_elsewhere, keep_link
from server.services.token_refusals import LOST_OR_UNSEEN
from server.store import hooks, links

REMOVED = "The webhook was removed."
OTHER_REPOSITORY = "This webhook is for another repository. Each one needs its own: `prpm hook add`."
GIVEN_AWAY = "The repository was given to another owner. Whoever has it now adds a webhook of their own."


async def link_by_hook(db: asyncpg.Pool, access: ForgeAccess, repository: Repository, hook_id: UUID) -> Link:
    """Whose a repository is that a hook's delivery names. Raises NotLinked, and CannotRead where it may work later."""
    hook = await hooks.read_hook(db, hook_id)
    if hook is None or hook.forge != repository.forge:
        raise NotLinked(REMOVED)
    if not hook.is_group and hook.place_id not in (None, repository.id):
        raise NotLinked(OTHER_REPOSITORY)
    if hook.token_shown is None:
        return await _without_token(db, hook, repository)
    kept = await links.read_link(db, forge=repository.forge, repository_id=repository.id)
    if kept is not None and kept.account_id != hook.account_id:
        raise NotLinked(ANOTHERS)
    # What was proven holds as long as the name does: a repository that is given away has another one.
    if kept is not None and kept.name == repository.name and hook.id == kept.hook_id:
        return kept.as_link()
    if kept is not None and kept.installation_id is not None:
        return kept.as_link()
    return await _with_token(db, access, hook, repository, kept)


async def _without_token(db: asyncpg.Pool, hook: Hook, repository: Repository) -> Link:
    """The account pays for what its hook says of a public repository. Nothing is claimed, and nobody is written to."""
    if hook.place_id is None:
        if hook.name.casefold() != repository.name.casefold():
            raise NotLinked(OTHER_REPOSITORY)
        await hooks.bind_hook(db, hook.id, repository.id)
    if _owner(hook.name) != _owner(repository.name):
        raise NotLinked(GIVEN_AWAY)
    if hook.name != repository.name:
        await hooks.rename_hook(db, hook.id, repository.name)
    return Link(
        forge=hook.forge,
        repository=repository,
        account_id=hook.account_id,
        account=hook.account,
        installation_id=None,
        hook_id=hook.id,
        reports=False,
    )


def _owner(name: str) -> str:
    return name.rpartition("/")[0].casefold()


async def _with_token(
    db: asyncpg.Pool, access: ForgeAccess, hook: Hook, repository: Repository, kept: KeptLink | None
) -> Link:
    try:
        proven = await _prove(access, hook, repository)
    except CannotRead as error:
        if error.retryable:
            raise
        # A token that was taken back is not asked again and again.
        await access.refusals.note(hook.id, "read", status=error.status, reason=str(error), among=LOST_OR_UNSEEN)
        raise NotLinked(str(error)) from None
    await access.refusals.note_use(hook.id, "read")
    if proven is None:
        if kept is not None:
            await end_links(db, forge=hook.forge, repository_ids=[repository.id], reason=GIVEN_AWAY)
        raise NotLinked(GIVEN_AWAY)
    if not hook.is_group:
        await hooks.rename_hook(db, hook.id, proven.name)
    found = Repository(
        forge=hook.forge,
        id=proven.id,
        name=proven.name,
        default_branch=proven.default_branch or repository.default_branch,
    )
    new = NewLink(repository=found, account_id=hook.account_id, hook_id=hook.id, owner_id=proven.owner_id)
    if await is_trusted_elsewhere(db, new, issuer=access.issuer(hook.forge)):
        raise NotLinked(ANOTHERS)
    return await keep_link(db, new)


async def _prove(access: ForgeAccess, hook: Hook, repository: Repository) -> Proven | None:
    """The repository, if the token still says that it is whose the hook is. Raises CannotRead."""
    forge, api_url, token = FORGES[hook.forge], access.api_url(hook.forge), await access.hook_token(hook.id)
    if token is None or hook.place_id is None:
        return None
    if hook.is_group:
        if forge.prove_member is None:
            return None
        proven = await access.ask(forge.prove_member(api_url, token, hook.place_id, repository.id))
        return proven if proven is not None and proven.may_administer else None
    proven = await access.ask(forge.prove(api_url, token, repository.name))
    is_the_same = proven.id == repository.id and proven.owner_id == hook.owner_id and not proven.is_group
    return proven if is_the_same and proven.may_administer else None


async def change_by_hook(db: asyncpg.Pool, changed: LinkChanged, hook_id: UUID) -> Ended:
    """A hook tells what became of its own repository. About others, and about installations, it has nothing to say."""
    hook = await hooks.read_hook(db, hook_id)
    if hook is None:
        return Ended("ignored", REMOVED)
    own = next((one for one in changed.repositories if one.id == hook.place_id and one.forge == hook.forge), None)
    if own is None or hook.is_group:
        return Ended("ignored", OTHER_REPOSITORY)
    if changed.word == "renamed":
        return Ended("handled", "The next delivery brings the new name.")
    if changed.word not in ("transferred", "deleted"):
        return Ended("ignored", "A webhook of a repository knows no installations.")
    reason = GIVEN_AWAY if changed.word == "transferred" else "The repository was deleted."
    await end_hook(db, hook, reason=reason)
    return Ended("handled", reason)
