"""`/api/v1/auth/oidc`: workflows of CI services exchange the token that their service signed for one of ours."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import Request, delete, get, post
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.timestamps import iso
from server.domain.accounts import Caller
from server.domain.trust import Trust
from server.services import keyless

TAGS = ["Keyless"]


class ExchangeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    token: Annotated[str, Meta(min_length=1, description="The JWT that the CI service made out for our audience.")]


class ExchangeAnswer(Struct, kw_only=True):
    """`token` is shown this once. It is for the jobs of this repository, and lives 15 minutes."""

    token: Annotated[str, Meta(examples=["prpm_..."])]
    expires_at: Annotated[str, Meta(examples=["2026-01-02T03:19:05.678Z"])]
    account: Annotated[str, Meta(examples=["acme"], description="Who is billed.")]
    repository: Annotated[str, Meta(examples=["acme/prompts"])]


class AudienceAnswer(Struct, kw_only=True):
    audience: Annotated[str, Meta(examples=["https://testing.example.com"])]


class NewTrustRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A repository, by the forge's numbers: names can be registered anew by somebody else."""

    account: Annotated[str, Meta(examples=["acme"])]
    repository: Annotated[str, Meta(examples=["acme/prompts"])]
    repository_id: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    owner_id: Annotated[int, Meta(ge=1, le=2**63 - 1, description="Of its owner, or its namespace at GitLab.")]
    issuer: str | None = None
    workflow: Annotated[str, Meta(examples=[".github/workflows/test.yml"])] | None = None
    allow_events: list[str] | None = None
    may_publish: bool = False


class TrustAnswer(Struct, kw_only=True):
    """A repository whose workflows need no key."""

    id: str
    account: str
    issuer: str
    repository: str
    repository_id: int
    owner_id: int
    scopes: list[str]
    proof: Annotated[str, Meta(description="Why it is believed to be the account's.")]
    created_at: str
    workflow: str | UnsetType = UNSET
    allowed_events: list[str] | UnsetType = UNSET


class TrustsAnswer(Struct, kw_only=True):
    trusted_repositories: list[TrustAnswer]


@get(
    "/api/v1/auth/oidc/audience",
    tags=TAGS,
    summary="For whom must the token be made out?",
    responses=refusals(),
)
async def get_audience(site: Site) -> AudienceAnswer:
    """The one audience that is taken."""
    return AudienceAnswer(audience=site.keyless.audience)


@post(
    "/api/v1/auth/oidc/exchange",
    status_code=200,
    tags=TAGS,
    summary="Exchange a workflow's token",
    responses=refusals(400, 415, 429, 503)
    | refusals(
        described={
            401: "The token is not good, or was used before.",
            403: "The repository is linked to no account, or the event is not allowed.",
        }
    ),
)
async def exchange(data: ExchangeRequest, site: Site, request: Request[Any, Any, Any]) -> ExchangeAnswer:
    """Each token once. Which repository and which owner is decided by their numbers, never by names or `sub`."""
    address = site.address_of(request.scope)
    done = await keyless.exchange(
        site.db,
        site.keyless,
        data.token,
        admit=lambda repository: site.doorkeeper.exchange(repository, address=address),
    )
    return ExchangeAnswer(
        token=done.token, expires_at=iso(done.expires_at), account=done.account, repository=done.repository
    )


@get(
    "/api/v1/trusted-repositories",
    opt=allows("administer"),
    tags=TAGS,
    summary="List trusted repositories",
    responses=refusals(401, 403, 404),
)
async def list_trusted_repositories(site: Site, caller: Caller, account: AccountName = None) -> TrustsAnswer:
    """Of the account, for its owners and admins."""
    found = await keyless.list_trusts(site.db, caller, account)
    return TrustsAnswer(trusted_repositories=[trust_answer(one) for one in found])


@post(
    "/api/v1/trusted-repositories",
    tags=TAGS,
    summary="Trust a repository",
    responses=refusals(400, 401, 403, 404, 409, 415),
)
async def add_trusted_repository(data: NewTrustRequest, site: Site, admin: Caller) -> TrustAnswer:
    """For administrators of the service, who vouch that it is the account's. A repository is one account's at most."""
    new = keyless.new_trust(
        site.keyless.issuers,
        account=data.account,
        issuer=data.issuer,
        repository=data.repository,
        repository_id=data.repository_id,
        owner_id=data.owner_id,
        workflow=data.workflow,
        events=data.allow_events or (),
        may_publish=data.may_publish,
        proof=f"administrator {admin.username}",
    )
    return trust_answer(await keyless.add_trust(site.db, new))


@delete(
    "/api/v1/trusted-repositories/{trust_id:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Trust a repository no longer",
    responses=refusals(401, 403, 404),
)
async def remove_trusted_repository(trust_id: str, site: Site, caller: Caller, account: AccountName = None) -> None:
    """Of the account, for its owners and admins. Tokens that its workflows hold end at once."""
    await keyless.remove_trust(site.db, caller, account, trust_id)


def trust_answer(one: Trust) -> TrustAnswer:
    return TrustAnswer(
        id=str(one.id),
        account=one.account,
        issuer=one.issuer,
        repository=one.repository,
        repository_id=one.repository_id,
        owner_id=one.owner_id,
        scopes=one.scopes,
        proof=one.proof,
        created_at=iso(one.created_at),
        workflow=one.workflow or UNSET,
        allowed_events=one.events or UNSET,
    )


handlers = [
    get_audience,
    exchange,
    list_trusted_repositories,
    add_trusted_repository,
    remove_trusted_repository,
]
