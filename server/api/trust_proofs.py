"""`POST /api/v1/trusted-repositories/proofs`: who administers a repository links it by themselves."""

from __future__ import annotations

from typing import Annotated

from litestar import post
from msgspec import Meta, Struct

from evals.models import Secret
from server.api.context import Site
from server.api.errors import refusals
from server.api.oidc import TAGS, TrustAnswer, trust_answer
from server.domain.accounts import Caller
from server.services import proving


class ProofRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """`forge_token` is yours at the forge: it is asked with once, and not kept."""

    repository: Annotated[str, Meta(max_length=255, examples=["acme/prompts"])]
    forge_token: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=4000,
            description="A person's token that may read the repository: fine-grained, OAuth or classic.",
        ),
    ]
    account: Annotated[str, Meta(examples=["acme"], description="An organisation; your own account if left out.")] | (
        None
    ) = None
    issuer: Annotated[str, Meta(description="Whose tokens its workflows show; GitHub's if left out.")] | None = None
    workflow: Annotated[str, Meta(examples=[".github/workflows/test.yml"])] | None = None
    allow_events: list[str] | None = None
    may_publish: bool = False
    replace: Annotated[bool, Meta(description="Move the link here, if it is another account's.")] = False


# Like the making of a token: closed to tokens of limited scope, so that none makes itself a stronger one.
@post(
    "/api/v1/trusted-repositories/proofs",
    status_code=201,
    tags=TAGS,
    summary="Link a repository that I administer",
    responses=refusals(401, 404, 415, 503)
    | refusals(
        described={
            400: "The forge does not know the token, or shows it no such repository.",
            403: "You do not administer the repository, or the account.",
            409: "Another account has it, and `replace` was not sent.",
        }
    ),
)
async def prove_repository(data: ProofRequest, site: Site, caller: Caller) -> TrustAnswer:
    """The forge is asked for the repository's numbers, its owner's, and whether the token's owner administers it."""
    proof = proving.Proof(
        repository=data.repository,
        unverified_token=Secret(data.forge_token),
        account=data.account,
        issuer=data.issuer,
        workflow=data.workflow,
        events=data.allow_events or (),
        may_publish=data.may_publish,
        replace=data.replace,
    )
    return trust_answer(await proving.prove_trust(site.db, site.keyless.issuers, caller, proof))


handlers = [prove_repository]
