"""A repository is linked by the forge's own word: whoever shows a token that administers it there may link it.

The token is for one question. It is neither kept nor logged, and goes to the forge that the link's issuer belongs to.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import asyncpg
from msgspec import Struct

from evals.models import Secret
from server.domain.accounts import Caller
from server.domain.errors import Conflict, InvalidRequest, NotAllowed, Unavailable
from server.domain.rights import Right
from server.domain.trust import Trust
from server.forges import FORGES, CannotRead, Proven
from server.services.keyless import Issuer, new_trust
from server.services.on_behalf import acting_for, token_lacks_right
from server.store import trust

# As both forges write them. No part is `.` or `..`, so that the name stays one place in an address.
NAME = re.compile(r"(?!\.\.?/)[\w.-]{1,100}(?:/(?!\.\.?(?:/|$))[\w.-]{1,100}){1,20}", re.ASCII)
FORGE_TOKEN = re.compile(r"[\x21-\x7e]{1,4000}")
FORGE_SECONDS = 20.0


class Proof(Struct, frozen=True, kw_only=True):
    """What somebody wants linked, and the token that shows their right to it. `issuer` None: the first one."""

    repository: str
    unverified_token: Secret
    account: str | None = None
    issuer: str | None = None
    workflow: str | None = None
    events: Sequence[str] = ()
    may_publish: bool = False
    replace: bool = False


class _Administered(Struct, frozen=True, kw_only=True):
    """A repository that the forge's `by` administers, in the forge's numbers."""

    id: int
    owner_id: int
    name: str
    by: str


def api_urls(plugin_secrets: Mapping[str, Secret]) -> dict[str, str]:
    """The API of each forge whose address the operator has set, by the forge's name: PRPM_GITHUB_API_URL."""
    names = {forge: f"{forge.upper()}_API_URL" for forge in FORGES}
    return {forge: plugin_secrets[name].reveal() for forge, name in names.items() if name in plugin_secrets}


async def prove_trust(db: asyncpg.Pool, issuers: Mapping[str, Issuer], caller: Caller, proof: Proof) -> Trust:
    """The repository is trusted from now on, as the forge says that the token's owner administers it.

    Takes the place of the account's own link and of one from before the repository changed hands; with `replace` of any
    account's. Safe to call twice. Raises NotFound and NotAllowed as `acting_for`, InvalidRequest, NotAllowed for who is
    no administrator there, Conflict for another account's repository, Unavailable while the forge does not answer.
    """
    acting = await acting_for(db, caller, proof.account, "administer")
    # Its workflows' tokens may run, so nobody links who could not run by themselves.
    needed: tuple[Right, ...] = ("run", "publish") if proof.may_publish else ("run",)
    for right in needed:
        if right not in caller.rights:
            raise token_lacks_right(right)
    issuer = _issuer(issuers, proof.issuer)
    said = await _ask(issuer, proof)
    new = new_trust(
        issuers,
        account=acting.username,
        issuer=issuer.url,
        repository=said.name,
        repository_id=said.id,
        owner_id=said.owner_id,
        workflow=proof.workflow,
        events=proof.events,
        may_publish=proof.may_publish,
        proof=f"{issuer.kind.forge}: {said.by} administers it",
    )
    if await trust.is_linked_elsewhere(db, new):
        raise Conflict(
            "The App or a webhook has linked this repository to another account. End that link first, at the forge.",
            code="repository_is_linked",
        )
    added = await trust.prove_trust(db, new, replace=proof.replace)
    if added is None:
        raise Conflict(
            "This repository is linked to another account. As you administer it, you may move the link to yours: send "
            "`replace` (`prpm trust add --replace`).",
            code="repository_is_trusted",
        )
    return added


def _issuer(issuers: Mapping[str, Issuer], url: str | None) -> Issuer:
    """Raises InvalidRequest for one that is not known, or whose forge cannot be asked."""
    found = issuers.get(url) if url is not None else next(iter(issuers.values()), None)
    if found is None:
        raise InvalidRequest(f"issuer: must be one of {', '.join(issuers)}.", code="unknown_issuer")
    if found.api_url is None:
        raise InvalidRequest(
            f"issuer: this service does not know which forge {found.url} belongs to. Ask its operator to link the "
            "repository, or to set PRPM_GITHUB_API_URL.",
            code="no_forge",
        )
    return found


async def _ask(issuer: Issuer, proof: Proof) -> _Administered:
    """What the forge says of the repository, which the token's owner administers. Nothing of the token is repeated."""
    if not NAME.fullmatch(proof.repository):
        raise InvalidRequest("repository: must be owner/name.", code="invalid_repository")
    if not FORGE_TOKEN.fullmatch(proof.unverified_token.reveal()):
        raise InvalidRequest("forge_token: is no token of a forge.", code="invalid_forge_token")
    said, by = await _look(issuer, proof)
    where = issuer.kind.forge
    # A server that answered with another repository than was asked for would link that one.
    if said.is_group or said.name.lower() != proof.repository.lower():
        raise InvalidRequest(f"repository: on {where} this is {said.name[:255]}.", code="repository_renamed")
    if type(said.id) is not int or type(said.owner_id) is not int:
        raise Unavailable(f"{where} answered in a form that is not known here.")
    if not said.may_administer:
        raise NotAllowed(
            f"{by} does not administer {said.name[:255]} on {where}, so may not link it.", code="not_administrator"
        )
    return _Administered(id=said.id, owner_id=said.owner_id, name=said.name, by=by)


async def _look(issuer: Issuer, proof: Proof) -> tuple[Proven, str]:
    # Here, as they bring the HTTP client along, which a process of the API rarely needs.
    import httpx

    from server.services.posting import post
    from server.services.public_client import origin_of, public_client

    api_url = (issuer.api_url or "").rstrip("/")
    # The operator has named this address, so it may be one within the operator's own network.
    allowed = frozenset({origin_of(httpx.URL(api_url))})
    forge, token = FORGES[issuer.kind.forge], proof.unverified_token
    try:
        async with public_client(allowed_origins=allowed) as client:
            # First, as the App of somebody else may say of its customers' repositories that it administers them.
            by = await post(forge.person(api_url, token), client=client)
            return await post(forge.prove(api_url, token, proof.repository), client=client), by[:100]
    except CannotRead as error:
        if error.retryable:
            raise Unavailable(str(error).replace("It is tried again later.", "Try again later.")) from None
        raise InvalidRequest(f"{error} Is the token still good?", code="forge_refused") from None
