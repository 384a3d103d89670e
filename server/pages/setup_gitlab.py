"""`/setup/gitlab`: what to paste into a project's or group's webhook, and whether its first delivery came."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from litestar import Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct

from evals.models import Secret
from server.api.context import Site
from server.api.errors import STATUS
from server.api.timestamps import iso_if
from server.api.webhooks import parse_hook_id
from server.domain.errors import ServiceError
from server.pages.login import ask_to_log_in
from server.pages.rendering import render
from server.pages.sessions import Session, check_origin, form_page, session_of
from server.pages.setup_github import is_local
from server.services import hooks
from server.services.github_setup import accounts_to_link
from server.services.on_behalf import acting_for

FORGE = "gitlab"


class HookForm(Struct, kw_only=True):
    name: str = ""
    unverified_token: str = ""
    account: str = ""
    plain_token: str = ""


@get("/setup/gitlab", include_in_schema=False)
async def show_form(request: Request[Any, Any, Any], site: Site) -> Response[bytes]:
    """The project, and a token for it."""
    session = await session_of(request, site)
    if session is None:
        return ask_to_log_in(next_path="/setup/gitlab")
    return await _form(site, session)


@post("/setup/gitlab", include_in_schema=False, status_code=201)
async def add(
    data: Annotated[HookForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Response[bytes]:
    """The token is tried; then this page alone shows what to paste."""
    session = await session_of(request, site)
    if session is None:
        return ask_to_log_in(next_path="/setup/gitlab")
    try:
        check_origin(request)
        acting = await acting_for(site.db, session.caller, data.account or None, "administer")
        token = data.unverified_token.strip()
        issued = await hooks.add_hook(
            site.hooks,
            acting.id,
            by=session.caller.username,
            forge=FORGE,
            name=data.name.strip().strip("/"),
            token=Secret(token) if token else None,
            proof="token" if data.plain_token else "signature",
        )
    except ServiceError as error:
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        return await _form(site, session, filled=data, trouble=error.message, status=status)
    return render(
        "setup_gitlab_values.html",
        status=201,
        name=issued.hook.name,
        is_group=issued.hook.is_group,
        url=issued.url,
        secret=issued.secret,
        field=issued.secret_field,
        events=issued.events,
        is_local=is_local(issued.url),
        is_secure=issued.url.startswith("https:"),
        look=f"/setup/gitlab/{issued.hook.id}?account={acting.username}",
    )


@get("/setup/gitlab/{hook_id:str}", include_in_schema=False)
async def show_arrival(
    hook_id: str, request: Request[Any, Any, Any], site: Site, account: str | None = None
) -> Response[bytes]:
    """Whether GitLab's test arrived, with a signature that holds."""
    session = await session_of(request, site)
    if session is None:
        return ask_to_log_in(next_path="/setup/gitlab")
    try:
        acting = await acting_for(site.db, session.caller, account, "see")
        own = parse_hook_id(hook_id)
        hook = next((one for one in await hooks.list_hooks(site.hooks, acting.id) if one.id == own), None)
        if hook is None:
            raise hooks.no_hook()
    except ServiceError as error:
        return render("trouble.html", status=404, title="No such webhook", sentence=error.message)
    of_account = f"?account={quote(account, safe='')}" if account else ""
    return render(
        "setup_gitlab_arrival.html",
        name=hook.name,
        account=account or "",
        delivered_at=iso_if(hook.delivered_at) or "",
        again=f"/setup/gitlab/{hook.id}{of_account}",
    )


async def _form(
    site: Site, session: Session, *, filled: HookForm | None = None, trouble: str = "", status: int = 200
) -> Response[bytes]:
    """What was filled in stays, the token excepted."""
    accounts = await accounts_to_link(site.db, session.caller)
    return form_page(
        render("setup_gitlab.html", status=status, trouble=trouble, accounts=accounts, form=filled or HookForm())
    )


handlers = [show_form, add, show_arrival]
