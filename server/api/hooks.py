"""`/api/v1/hooks`: webhooks with an address and a secret of their own."""

from __future__ import annotations

from typing import Annotated

from litestar import delete, get, post
from msgspec import UNSET, Meta, Struct, UnsetType

from evals.models import Secret
from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.api.timestamps import iso, iso_if
from server.api.webhooks import parse_hook_id
from server.domain.accounts import Caller
from server.domain.links import Hook
from server.services import hooks
from server.services.hooks import Issued
from server.services.on_behalf import acting_for

TAGS = ["Webhooks"]
PATH = "/api/v1/hooks"


class NewHookRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A repository, or at GitLab a group."""

    forge: Annotated[str, Meta(examples=["github"])]
    name: Annotated[str, Meta(examples=["acme/prompts"], max_length=255)]
    token: (
        Annotated[
            str,
            Meta(
                max_length=1000,
                description="An access token for this repository. It is tried at once and kept encrypted. Without one "
                "only public repositories can be tested, and nothing is reported there.",
            ),
        ]
        | UnsetType
    ) = UNSET
    plain_token: Annotated[
        bool, Meta(description="GitLab before 19.0: its deliveries show a plain secret token and are not signed.")
    ] = False


class HookAnswer(Struct, kw_only=True):
    """A webhook, without what opens it."""

    id: str
    forge: Annotated[str, Meta(examples=["github"])]
    name: Annotated[str, Meta(examples=["acme/prompts"])]
    url: Annotated[str, Meta(description="Where the forge delivers.")]
    is_group: bool
    proof: Annotated[str, Meta(description="signature, or token: what each delivery is checked by")]
    created_at: str
    created_by: Annotated[str, Meta(examples=["alice"])]
    repository_id: (
        Annotated[int, Meta(description="The forge's number; left out until the first delivery says it.")] | UnsetType
    ) = UNSET
    token: Annotated[str, Meta(examples=["github_pat_…x9Qz"], description="Masked.")] | UnsetType = UNSET
    rotated_at: str | UnsetType = UNSET
    old_secret_until: Annotated[str, Meta(description="Until then the secret before holds, too.")] | UnsetType = UNSET
    last_delivery_at: Annotated[str, Meta(description="To the minute.")] | UnsetType = UNSET
    token_refused_at: (
        Annotated[str, Meta(description="The forge refused the token then; left out once it works again.")] | UnsetType
    ) = UNSET
    token_refused: (
        Annotated[
            str,
            Meta(
                description="Why, and what for.",
                examples=["We could not read the pull request (HTTP 401). The token or address is not accepted."],
            ),
        ]
        | UnsetType
    ) = UNSET


class NewTokenRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    token: Annotated[
        str, Meta(min_length=1, max_length=1000, description="An access token for the same repository or group.")
    ]


class IssuedHookAnswer(HookAnswer, kw_only=True):
    """`secret` is shown this once: paste it at the forge, along with `url`."""

    secret: str
    secret_field: Annotated[str, Meta(description="What the forge calls the field for it.")]
    content_type: Annotated[str, Meta(description="To be chosen there, where the forge asks.")] | UnsetType = UNSET
    events: list[str]


class HookList(Struct, kw_only=True):
    hooks: list[HookAnswer]


@get(PATH, opt=allows("see"), tags=TAGS, summary="List webhooks", responses=refusals(401, 403, 404))
async def list_hooks(site: Site, caller: Caller, account: AccountName = None) -> HookList:
    """Of the account, by forge and name."""
    acting = await acting_for(site.db, caller, account, "see")
    return HookList(hooks=[_answer(site, one) for one in await hooks.list_hooks(site.hooks, acting.id)])


@post(
    PATH,
    opt=allows("administer"),
    tags=TAGS,
    summary="Add a webhook",
    responses=refusals(400, 401, 403, 404, 409, 415, 429),
)
async def add_hook(data: NewHookRequest, site: Site, caller: Caller, account: AccountName = None) -> IssuedHookAnswer:
    """Paste the answer's `url` and `secret` into the repository's settings. The account pays for what it delivers."""
    acting = await acting_for(site.db, caller, account, "administer")
    issued = await hooks.add_hook(
        site.hooks,
        acting.id,
        by=caller.username,
        forge=data.forge,
        name=data.name,
        token=Secret(data.token) if data.token else None,
        proof="token" if data.plain_token else "signature",
    )
    return _issued(site, issued)


@post(
    PATH + "/{hook_id:str}/rotate",
    opt=allows("administer"),
    status_code=200,
    tags=TAGS,
    summary="Change a webhook's secret",
    responses=refusals(401, 403, 404, 409),
)
async def rotate_hook(hook_id: str, site: Site, caller: Caller, account: AccountName = None) -> IssuedHookAnswer:
    """The secret before holds for a day more."""
    acting = await acting_for(site.db, caller, account, "administer")
    own = parse_hook_id(hook_id)
    if own is None:
        raise hooks.no_hook()
    return _issued(site, await hooks.rotate_hook(site.hooks, acting.id, own, by=caller.username))


@post(
    PATH + "/{hook_id:str}/token",
    opt=allows("administer"),
    status_code=200,
    tags=TAGS,
    summary="Change a webhook's access token",
    responses=refusals(400, 401, 403, 404, 409, 415),
)
async def replace_token(
    hook_id: str, data: NewTokenRequest, site: Site, caller: Caller, account: AccountName = None
) -> HookAnswer:
    """In place of one that expired or may too little. It is tried at once; address and secret stay as they are."""
    acting = await acting_for(site.db, caller, account, "administer")
    own = parse_hook_id(hook_id)
    if own is None:
        raise hooks.no_hook()
    token = Secret(data.token)
    return _answer(site, await hooks.replace_token(site.hooks, acting.id, own, by=caller.username, token=token))


@delete(
    PATH + "/{hook_id:str}",
    opt=allows("administer"),
    tags=TAGS,
    summary="Remove a webhook",
    responses=refusals(401, 403, 404),
)
async def remove_hook(hook_id: str, site: Site, caller: Caller, account: AccountName = None) -> None:
    """At once: its address is not there any more, and its secret and token are forgotten."""
    acting = await acting_for(site.db, caller, account, "administer")
    own = parse_hook_id(hook_id)
    if own is None:
        raise hooks.no_hook()
    await hooks.remove_hook(site.hooks, acting.id, own, by=caller.username)


def _answer(site: Site, hook: Hook) -> HookAnswer:
    return HookAnswer(
        id=str(hook.id),
        forge=hook.forge,
        name=hook.name,
        url=hooks.address_of(site.hooks.public_url, hook),
        is_group=hook.is_group,
        proof=hook.proof,
        created_at=iso(hook.created_at),
        created_by=hook.created_by,
        repository_id=hook.place_id if hook.place_id is not None else UNSET,
        token=hook.token_shown or UNSET,
        rotated_at=iso_if(hook.rotated_at),
        old_secret_until=iso_if(hook.old_until) if hook.is_old_good else UNSET,
        last_delivery_at=iso_if(hook.delivered_at),
        token_refused_at=iso_if(hook.refused_at),
        token_refused=hook.refused_reason or UNSET,
    )


def _issued(site: Site, issued: Issued) -> IssuedHookAnswer:
    shown = _answer(site, issued.hook)
    fields = {name: getattr(shown, name) for name in shown.__struct_fields__}
    fields |= {"old_secret_until": iso_if(issued.old_until)}
    return IssuedHookAnswer(
        **fields,
        secret=issued.secret,
        secret_field=issued.secret_field,
        content_type=issued.content_type or UNSET,
        events=list(issued.events),
    )


handlers = [list_hooks, add_hook, rotate_hook, replace_token, remove_hook]
