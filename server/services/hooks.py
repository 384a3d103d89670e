"""An account's webhooks with an address and a secret of their own: add, look at, rotate, remove.

A token that is given with one is tried at once, and says whose the repository is: only a hook with the token of
somebody who may administer the repository claims it. Without a token a hook works for public repositories, and claims
nothing.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID, uuid4

import asyncpg
import structlog
from msgspec import Struct

from evals.models import Secret
from server.domain.errors import Conflict, InvalidRequest, NotFound, TooMany, Unavailable
from server.domain.events import Repository
from server.domain.links import Hook, NewLink
from server.forges import FORGES, Asking, CannotRead, Proven
from server.services.link_records import end_links, is_trusted_elsewhere, link_repository
from server.services.sealing import CannotOpen, Sealer
from server.store import hooks
from server.store.hooks import NewHook
from server.webhooks import SOURCES, Proof, Secrets

T = TypeVar("T")

log = structlog.get_logger()

MOST_HOOKS = 100
# After a rotation there is a day to paste the new secret; until then the one before holds as well.
OLD_SECONDS = 86_400.0
HOOK_TOKEN = "token"  # noqa: S105 - the name of what is sealed, beside a hook's secrets
OLD = "old:"  # before the names of secrets that were rotated
NAME = re.compile(r"(?=.{3,255}\Z)[\w.-]+(?:/[\w.-]+)*")
LONGEST_TOKEN = 1000


class Asks(Protocol):
    """ForgeAccess, which is not imported here as it brings the HTTP client along."""

    def api_url(self, forge: str) -> str: ...

    def issuer(self, forge: str) -> str | None: ...

    async def ask(self, asking: Asking[T]) -> T: ...


class Hooks(Struct, frozen=True, kw_only=True):
    """What the verbs below need. `reach` gives what asks forges; it is made when it is needed."""

    db: asyncpg.Pool
    reach: Callable[[], Asks]
    sealer: Sealer | None
    public_url: str


class Issued(Struct, frozen=True, kw_only=True):
    """A hook with its secret, which is shown this once."""

    hook: Hook
    url: str
    secret: str
    secret_field: str  # what the forge calls the field that it goes to
    events: tuple[str, ...]  # what to choose at the forge
    content_type: str  # as above; "" where it does not ask
    old_until: datetime | None = None


async def add_hook(
    site: Hooks, account_id: UUID, *, by: str, forge: str, name: str, token: Secret | None, proof: Proof = "signature"
) -> Issued:
    """A new hook of the account; `by` is who adds it, for people.

    Raises InvalidRequest, Conflict, TooMany or Unavailable, and keeps nothing.
    """
    sealer = _need_sealer(site.sealer)
    _check(forge, name, token, proof)
    proven = await _try_token(site, forge, name, token) if token is not None else None
    if proven is not None and not proven.is_group:
        await _need_free(site, account_id, forge, proven)
    hook_id = uuid4()
    kept = {setting: SOURCES[forge].make_secret(setting, secrets.token_bytes(32)) for setting in _settings(forge)}
    new = NewHook(
        id=hook_id,
        account_id=account_id,
        forge=forge,
        name=proven.name if proven else name,
        is_group=proven is not None and proven.is_group,
        place_id=proven.id if proven else None,
        owner_id=proven.owner_id if proven else None,
        proof=proof,
        sealed=sealer.seal_secrets(str(hook_id), kept | ({HOOK_TOKEN: token.reveal()} if token else {})),
        token_shown=shown(token) if token else None,
        created_by=by,
    )
    if not await hooks.add_hook(site.db, new, most=MOST_HOOKS):
        raise await _why_not(site.db, new)
    if proven is not None and not proven.is_group and not await _claim(site.db, new, proven):
        await hooks.remove_hook(site.db, hook_id, account_id=account_id)
        raise Conflict(
            "This repository is linked to another account, or by the App already. End that link first.",
            code="repository_is_linked",
        )
    hook = await hooks.read_hook(site.db, hook_id)
    assert hook is not None, "it was just made"  # noqa: S101 -- for the type checker
    log.info("hook added", hook=str(hook_id), forge=forge, account=str(account_id), by=by)
    return _issued(site, hook, kept)


async def list_hooks(site: Hooks, account_id: UUID) -> list[Hook]:
    """By forge and name."""
    return await hooks.list_hooks(site.db, account_id)


async def rotate_hook(site: Hooks, account_id: UUID, hook_id: UUID, *, by: str) -> Issued:
    """Another secret; the one before holds for OLD_SECONDS more. Raises NotFound, Conflict."""
    sealer = _need_sealer(site.sealer)
    hook = await _need_own(site.db, account_id, hook_id)
    before = _open(sealer, hook)
    kept = {
        setting: SOURCES[hook.forge].make_secret(setting, secrets.token_bytes(32)) for setting in _settings(hook.forge)
    }
    old = {f"{OLD}{setting}": before[setting] for setting in kept if setting in before}
    token = {HOOK_TOKEN: before[HOOK_TOKEN]} if HOOK_TOKEN in before else {}
    sealed = sealer.seal_secrets(str(hook.id), kept | old | token)
    until = await hooks.rotate_hook(site.db, hook, sealed=sealed, old_seconds=OLD_SECONDS)
    if until is None:
        raise Conflict("This hook was changed at the same moment. Look at it, and try again.", code="hook_changed")
    log.info("hook rotated", hook=str(hook.id), account=str(account_id), by=by)
    return _issued(site, hook, kept, old_until=until)


async def replace_token(site: Hooks, account_id: UUID, hook_id: UUID, *, by: str, token: Secret) -> Hook:
    """Another access token in place of one that expired, was revoked or may too little. Address and secret stay.

    It has to be one for the same repository or group. Raises NotFound, InvalidRequest, Conflict, Unavailable.
    """
    sealer = _need_sealer(site.sealer)
    hook = await _need_own(site.db, account_id, hook_id)
    if hook.token_shown is None:
        raise Conflict(
            "This webhook was added without a token, which claims nothing. Remove it, and add it anew with one.",
            code="hook_without_token",
        )
    _check(hook.forge, hook.name, token, hook.proof)
    proven = await _try_token(site, hook.forge, hook.name, token)
    if (proven.id, proven.is_group) != (hook.place_id, hook.is_group) or proven.owner_id != hook.owner_id:
        raise InvalidRequest(
            "token: what has this name at the forge now is not what the webhook was added for. Remove it, and add it "
            "anew.",
            code="token_of_another",
        )
    sealed = sealer.seal_secrets(str(hook.id), _open(sealer, hook) | {HOOK_TOKEN: token.reveal()})
    if not await hooks.replace_token(site.db, hook, sealed=sealed, token_shown=shown(token)):
        raise Conflict("This hook was changed at the same moment. Look at it, and try again.", code="hook_changed")
    log.info("hook token replaced", hook=str(hook.id), account=str(account_id), by=by)
    return await _need_own(site.db, account_id, hook_id)


async def remove_hook(site: Hooks, account_id: UUID, hook_id: UUID, *, by: str) -> None:
    """Its address answers as if it had never been; its secrets are forgotten, its links end. Raises NotFound."""
    hook = await _need_own(site.db, account_id, hook_id)
    await end_hook(site.db, hook, reason="The webhook of this repository was removed.")
    log.info("hook removed", hook=str(hook.id), account=str(account_id), by=by)


async def end_hook(db: asyncpg.Pool, hook: Hook, *, reason: str) -> None:
    """The hook is over, and so are its links. Safe to call twice."""
    await hooks.remove_hook(db, hook.id, account_id=hook.account_id)
    await end_links(db, forge=hook.forge, repository_ids=await hooks.list_hook_links(db, hook.id), reason=reason)


async def secrets_of_hook(db: asyncpg.Pool, sealer: Sealer | None, *, source: str, hook_id: UUID) -> Secrets | None:
    """What a delivery to this hook's address is checked with; None where there is no such hook.

    Of its secrets those of one kind of proof are given, so that there is no way down to the weaker.
    """
    hook = await hooks.read_hook(db, hook_id)
    if hook is None or hook.forge != source or source not in SOURCES or sealer is None:
        return None
    try:
        found = sealer.open_secrets(str(hook.id), hook.sealed)
    except CannotOpen as error:
        log.error("hook cannot be opened", hook=str(hook.id), reason=str(error))
        return None
    setting = SOURCES[source].proofs[hook.proof]
    names = (setting, f"{OLD}{setting}") if hook.is_old_good else (setting,)
    return {setting: tuple(found[name].encode() for name in names if name in found)}


def shown(token: Secret) -> str:
    """The token for people: how it begins, which is its kind, and four characters to know it by."""
    text = token.reveal()
    kind = re.match(r"(?:[A-Za-z]+[_-])+", text)
    return f"{kind[0] if kind and len(kind[0]) <= 12 else ''}…{text[-4:] if len(text) >= 20 else ''}"


def _settings(forge: str) -> tuple[str, ...]:
    return tuple(SOURCES[forge].proofs.values())


def _check(forge: str, name: str, token: Secret | None, proof: Proof) -> None:
    known = [one for one in SOURCES if one in FORGES and SOURCES[one].proofs]
    if forge not in known:
        raise InvalidRequest(f"forge: has to be one of {', '.join(known)}.", code="unknown_forge")
    if not NAME.fullmatch(name):
        raise InvalidRequest("name: has to be owner/name, or at GitLab a group's path.", code="invalid_repository")
    if proof not in SOURCES[forge].proofs:
        raise InvalidRequest(f"plain_token: deliveries of {forge} are signed; leave it out.", code="invalid_proof")
    if token is not None and not (0 < len(token.reveal()) <= LONGEST_TOKEN and token.reveal().isascii()):
        raise InvalidRequest("token: this is no access token.", code="invalid_token")
    if token is not None and not token.reveal().isprintable():
        raise InvalidRequest("token: this is no access token; it holds characters that no token has.")
    if token is None and "/" not in name:
        raise InvalidRequest("token: a group's webhook needs a token, which says what is in the group.")


async def _try_token(site: Hooks, forge: str, name: str, token: Secret) -> Proven:
    """What the token finds. Raises InvalidRequest, Unavailable."""
    access = site.reach()
    api_url = access.api_url(forge)
    try:
        proven = await access.ask(FORGES[forge].prove(api_url, token, name))
    except CannotRead as error:
        if error.retryable:
            raise Unavailable(f"The token could not be tried. {error}", code="forge_away") from None
        raise InvalidRequest(f"token: {error}", code="token_refused") from None
    await _need_person(access, forge, api_url, token)
    if not proven.may_administer:
        raise InvalidRequest(
            "token: whoever made it may not administer this repository, so it does not show whose it is. Make it as an "
            "admin (at GitLab a maintainer), or add the webhook without a token.",
            code="token_too_small",
        )
    return proven


async def _need_person(access: Asks, forge: str, api_url: str, token: Secret) -> None:
    """An App of somebody else says of its customers' repositories that it administers them, and means no person.

    Raises InvalidRequest, Unavailable.
    """
    try:
        await access.ask(FORGES[forge].person(api_url, token))
    except CannotRead as error:
        if error.retryable:
            raise Unavailable(f"The token could not be tried. {error}", code="forge_away") from None
        raise InvalidRequest(
            "token: the forge does not say whose token this is, so it shows nobody's right to the repository. Tokens "
            "of Apps and workflows are such; make an access token of your own.",
            code="token_of_nobody",
        ) from None


async def _need_free(site: Hooks, account_id: UUID, forge: str, proven: Proven) -> None:
    """Raises Conflict where the repository's workflows act for another account: it is that one's."""
    new = NewLink(repository=_found(forge, proven), account_id=account_id, owner_id=proven.owner_id)
    if await is_trusted_elsewhere(site.db, new, issuer=site.reach().issuer(forge)):
        raise Conflict(
            "The workflows of this repository run for another account. End that first, or move it to this one: "
            "`prpm trust add --replace`.",
            code="repository_is_trusted",
        )


def _found(forge: str, proven: Proven) -> Repository:
    return Repository(forge=forge, id=proven.id, name=proven.name, default_branch=proven.default_branch)


async def _claim(db: asyncpg.Pool, new: NewHook, proven: Proven) -> bool:
    """The repository is the account's, by this token."""
    repository = _found(new.forge, proven)
    return await link_repository(
        db, NewLink(repository=repository, account_id=new.account_id, hook_id=new.id, owner_id=proven.owner_id)
    )


async def _why_not(db: asyncpg.Pool, new: NewHook) -> Conflict | TooMany:
    if found := await hooks.find_equal_hook(db, new):
        return Conflict(f"There is a webhook for {new.name} already: {found}. Rotate or remove it.", code="hook_exists")
    return TooMany(f"An account has at most {MOST_HOOKS} webhooks. Remove one first.", code="too_many_hooks")


def _issued(site: Hooks, hook: Hook, kept: dict[str, str], *, old_until: datetime | None = None) -> Issued:
    source = SOURCES[hook.forge]
    return Issued(
        hook=hook,
        url=address_of(site.public_url, hook),
        secret=kept[source.proofs[hook.proof]],
        secret_field=source.secret_fields.get(hook.proof, "Secret"),
        events=source.events,
        content_type=source.content_type,
        old_until=old_until,
    )


def address_of(public_url: str, hook: Hook) -> str:
    """Where the forge has to deliver."""
    return f"{public_url}/webhooks/{hook.forge}/{hook.id}"


def _open(sealer: Sealer, hook: Hook) -> dict[str, str]:
    try:
        return sealer.open_secrets(str(hook.id), hook.sealed)
    except CannotOpen as error:
        raise Conflict(f"This hook's secret cannot be opened: {error}. Remove it and add it anew.") from None


async def _need_own(db: asyncpg.Pool, account_id: UUID, hook_id: UUID) -> Hook:
    hook = await hooks.read_hook(db, hook_id)
    if hook is None or hook.account_id != account_id:
        raise no_hook()
    return hook


def no_hook() -> NotFound:
    """One answer for what is not there and what is another's."""
    return NotFound("There is no such webhook, or it is not yours.", code="hook_not_found")


def _need_sealer(sealer: Sealer | None) -> Sealer:
    if sealer is None:
        raise Conflict(
            "This service cannot keep secrets: its operator has to set PRPM_SECRET_KEY.", code="no_secret_key"
        )
    return sealer
