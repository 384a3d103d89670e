"""Workflows without a key: a token that their CI service signed is exchanged for one of ours that lives 15 minutes."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import jwt
from msgspec import Struct

from server.domain.accounts import Caller
from server.domain.errors import Conflict, InvalidRequest, NotAllowed, NotAuthenticated, NotFound, Unavailable
from server.domain.trust import Exchanged, NewTrust, Trust
from server.issuers import IssuerKind, Workflow, find_kinds
from server.services.identity import LEEWAY_SECONDS, hash_token, new_token
from server.services.on_behalf import acting_for
from server.services.signing_keys import LONGEST_KEY_ID, SigningKeys
from server.store import accounts, trust

LIFE_SECONDS = 900.0
LONGEST_TOKEN = 16_000  # characters; those of GitHub and GitLab have about 2,000
LONGEST_JTI = 255
# A used token is remembered until its end, so none may end too far ahead. GitLab's live as long as their job may run.
LONGEST_LIFE_SECONDS = 31 * 86_400


class Issuer(Struct, frozen=True, kw_only=True):
    """An issuer whose tokens may be exchanged."""

    url: str
    kind: IssuerKind
    keys: SigningKeys
    api_url: str | None  # of its forge, which is asked who administers a repository


class Keyless(Struct, frozen=True, kw_only=True):
    """Whose tokens are taken, and for whom they have to be made out."""

    issuers: Mapping[str, Issuer]  # by the exact text of `iss`
    audience: str


def read_issuers(text: str | None, *, api_urls: Mapping[str, str] | None = None) -> dict[str, Issuer]:
    """The issuers of `github=https://..., gitlab=https://...`; without any, GitHub's and GitLab's own.

    `api_urls`: a forge's API by the forge's name, for issuers whose address does not tell.

    Raises InvalidRequest.
    """
    kinds = find_kinds()
    if text is None:
        named = [(kind.name, kind.default_issuer) for kind in kinds.values()]
    else:
        named = [_named(part.strip(), kinds) for part in text.split(",") if part.strip()]
    return {url: _issuer(kinds[name], url, api_urls=api_urls or {}) for name, url in named}


def _issuer(kind: IssuerKind, url: str, *, api_urls: Mapping[str, str]) -> Issuer:
    api_url = kind.api_url(url) or api_urls.get(kind.forge)
    return Issuer(url=url, kind=kind, keys=SigningKeys(kind.keys_url(url)), api_url=api_url)


def _named(part: str, kinds: Mapping[str, IssuerKind]) -> tuple[str, str]:
    name, _, url = part.partition("=")
    if not url:  # the address alone: one that a kind knows as its own
        name, url = next((kind.name for kind in kinds.values() if kind.default_issuer == part), ""), part
    parts = urlsplit(url)
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost"))
    if name not in kinds or not is_safe or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise InvalidRequest(
            f"PRPM_OIDC_ISSUERS: {part!r} is no issuer. Write kind=https://address, with a comma between several; "
            f"kinds are {', '.join(sorted(kinds))}."
        )
    return name, url


async def exchange(
    db: asyncpg.Pool,
    keyless: Keyless,
    unverified_token: str,
    *,
    admit: Callable[[str], Awaitable[None]] | None = None,
) -> Exchanged:
    """A token of ours for the workflow that shows this one, once.

    `admit` is told whose verified token it is, and may raise. Raises NotAuthenticated for a token that is not good or
    was used before, NotAllowed for one whose repository or event is not trusted, Unavailable while its issuer's keys
    are not known.
    """
    claims, issuer = await _verified(keyless, unverified_token)
    workflow = issuer.kind.read(claims)
    if admit is not None:
        await admit(f"{issuer.url} {workflow.repository_id}")
    found = await trust.read_trust(db, issuer.url, workflow.repository_id)
    ends_at = _check_times(claims, now=found.now)
    trusted = judge(workflow, found.trust, risky_events=issuer.kind.risky_events)
    token = new_token()
    expires_at = await trust.exchange_token(
        db,
        trusted,
        jti=_jti(claims),
        # Kept a little longer than the token could still be taken.
        ends_at=ends_at + LEEWAY_SECONDS + 5,
        token_hash=hash_token(token),
        name=f"workflow of {workflow.repository}"[:100],
        seconds=LIFE_SECONDS,
        repository=workflow.repository[:255],
        ref=workflow.ref,
    )
    if expires_at is None:
        raise NotAuthenticated(
            "This workflow's token was exchanged before; ask the CI service for a new one.", code="oidc_token_used"
        )
    return Exchanged(token=token, expires_at=expires_at, account=trusted.account, repository=workflow.repository)


def judge(workflow: Workflow, trusted: Trust | None, *, risky_events: frozenset[str]) -> Trust:
    """The trust that this workflow has. Raises NotAllowed (A8, A9)."""
    if workflow.runs_for_fork:
        raise NotAllowed("Code of a fork gets no token here; the fork's owner may trust it.", code="runs_for_fork")
    if trusted is None:
        raise NotAllowed(
            f"The repository {workflow.repository} is linked to no account. Who administers it links it: "
            f"`prpm trust add {workflow.repository}`, with --org NAME for an organisation. Or the service's operator: "
            f"`prpm-testing trust add ACCOUNT --repository {workflow.repository} --repository-id "
            f"{workflow.repository_id} --owner-id {workflow.owner_id}`.",
            code="repository_not_trusted",
        )
    if trusted.owner_id != workflow.owner_id:
        raise NotAllowed(
            "This repository has another owner than when it was linked. Have it linked anew.", code="owner_changed"
        )
    if workflow.event in risky_events and workflow.event not in trusted.events:
        raise NotAllowed(
            f"Workflows on {workflow.event} run with your rights on what outsiders wrote, so they get no token. Use "
            "pull_request, or have the repository linked with --allow-event.",
            code="event_not_allowed",
        )
    if trusted.workflow is not None and workflow.file != trusted.workflow:
        raise NotAllowed(
            f"Only the workflow {trusted.workflow} of this repository gets a token.", code="other_workflow"
        )
    return trusted


async def _verified(keyless: Keyless, unverified_token: str) -> tuple[Mapping[str, Any], Issuer]:
    """The claims of a token that one of our issuers signed for us. Whether it is still good is not looked at yet."""
    if len(unverified_token) > LONGEST_TOKEN:
        raise not_good("it is too long")
    try:
        header = jwt.get_unverified_header(unverified_token)
        # Only chooses the keys; below it is compared with what they signed.
        unverified = jwt.decode(unverified_token, options={"verify_signature": False})
        issuer = keyless.issuers.get(unverified.get("iss"))  # type: ignore[arg-type]  # whatever stands there
        if issuer is None:
            raise not_good("its issuer is not one that this service trusts")
        # What the header says of keys and algorithms decides nothing; `crit` would have to be understood.
        if header.get("alg") != "RS256" or "crit" in header:
            raise not_good("it is not signed with RS256")
        kid = header.get("kid")
        if not isinstance(kid, str) or not 0 < len(kid) <= LONGEST_KEY_ID:
            raise not_good("its key has no usable name")
        key = await issuer.keys.find(kid)
        if key is None:
            raise _no_key(issuer)
        options: Any = {
            "require": ["iss", "iat", "exp", "aud", "jti"],
            "strict_aud": True,
            # Looked at by the database's clock, and more strictly: a number in quotes is none.
            **dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf", "verify_sub", "verify_jti"), False),
        }
        claims: dict[str, Any] = jwt.decode(
            unverified_token,
            key,
            algorithms=["RS256"],
            audience=keyless.audience,
            issuer=issuer.url,
            options=options,
        )
    except jwt.InvalidAudienceError:
        raise not_good(f"its audience must be {keyless.audience} alone") from None
    # PyJWT lets a few plain errors through for hostile tokens (a header that is no object, an `iss` that is a list).
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, AttributeError, RecursionError):
        raise not_good("it cannot be verified") from None
    return claims, issuer


def _no_key(issuer: Issuer) -> NotAuthenticated | Unavailable:
    if not issuer.keys.are_known:
        return Unavailable(f"The keys of {issuer.url} cannot be fetched at the moment. Try again in a minute.")
    return not_good("its key is not one of its issuer's")


def _check_times(claims: Mapping[str, Any], *, now: float) -> float:
    """When the token ends, in seconds since 1970. Raises NotAuthenticated for one that is not good now (A5)."""
    ends_at, issued_at = _moment(claims, "exp"), _moment(claims, "iat")
    starts_at = _moment(claims, "nbf") if "nbf" in claims else issued_at
    if ends_at <= now - LEEWAY_SECONDS:
        raise not_good("it has expired")
    if max(starts_at, issued_at) > now + LEEWAY_SECONDS:
        raise not_good("it is not good yet")
    if ends_at > now + LONGEST_LIFE_SECONDS:
        raise not_good("it lives too long")
    return ends_at


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise not_good(f"its claim `{name}` is no time")
    if not 0 <= value < 1e11:
        raise not_good(f"its claim `{name}` is no time")
    return float(value)


def _jti(claims: Mapping[str, Any]) -> str:
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= LONGEST_JTI or not jti.isprintable():
        raise not_good("its claim `jti` cannot be used")
    return jti


def not_good(why: str) -> NotAuthenticated:
    """A workflow's token that is refused; `why` repeats nothing of it."""
    return NotAuthenticated(f"This workflow's token is not accepted: {why}.", code="invalid_oidc_token")


def new_trust(
    issuers: Mapping[str, Issuer],
    *,
    account: str,
    repository: str,
    repository_id: int,
    owner_id: int,
    issuer: str | None,
    workflow: str | None,
    events: Sequence[str],
    may_publish: bool,
    proof: str,
) -> NewTrust:
    """What is to be trusted, checked without a database. `issuer` None: the first one. Raises InvalidRequest."""
    known = issuers.get(issuer) if issuer is not None else next(iter(issuers.values()), None)
    if known is None:
        raise InvalidRequest(
            f"issuer: must be one of {', '.join(issuers)}; PRPM_OIDC_ISSUERS names them.", code="unknown_issuer"
        )
    if "/" not in repository or not repository.isprintable() or len(repository) > 255:
        raise InvalidRequest("repository: must be owner/name.", code="invalid_repository")
    if workflow is not None and not (0 < len(workflow) <= 255 and workflow.isprintable()):
        raise InvalidRequest("workflow: must be a file such as .github/workflows/test.yml.", code="invalid_workflow")
    if unknown := set(events) - known.kind.risky_events:
        raise InvalidRequest(f"There is nothing to allow about {', '.join(sorted(unknown))}.", code="invalid_event")
    return NewTrust(
        account=account,
        issuer=known.url,
        forge=known.kind.forge,
        repository_id=repository_id,
        owner_id=owner_id,
        repository=repository,
        workflow=workflow,
        events=sorted(set(events)),
        scopes=["run", "publish"] if may_publish else ["run"],
        proof=proof,
    )


async def add_trust(db: asyncpg.Pool, new: NewTrust) -> Trust:
    """The repository is trusted from now on. Raises NotFound, or Conflict if it is an account's already."""
    if await accounts.read_account(db, new.account) is None:
        raise NotFound(f"There is no account named {new.account}.", code="account_not_found")
    added = await trust.add_trust(db, new)
    if added is None:
        raise Conflict(
            "This repository is linked to an account already. Remove that link first.", code="repository_is_trusted"
        )
    return added


async def list_trusts(db: asyncpg.Pool, caller: Caller | None, account: str | None) -> list[Trust]:
    """The account's trusted repositories. `caller` None: the operator, who sees all without an account.

    Raises NotFound, NotAllowed.
    """
    return await trust.list_trusts(db, await _account_id(db, caller, account))


async def remove_trust(db: asyncpg.Pool, caller: Caller | None, account: str | None, trust_id: str) -> None:
    """The repository is trusted no longer, and its tokens end at once. Raises NotFound, NotAllowed."""
    account_id = await _account_id(db, caller, account)
    try:
        done = await trust.remove_trust(db, UUID(trust_id), account_id=account_id)
    except ValueError:
        done = False
    if not done:
        raise NotFound("There is no trusted repository with this id.", code="trust_not_found")


async def _account_id(db: asyncpg.Pool, caller: Caller | None, account: str | None) -> UUID | None:
    if caller is not None:
        return (await acting_for(db, caller, account, "administer")).id
    if account is None:
        return None
    found = await accounts.read_account(db, account)
    if found is None:
        raise NotFound(f"There is no account named {account}.", code="account_not_found")
    return found.id
