"""`/account`: who I am, the month, where results are told, trusted repositories, tokens, and forms that end these."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from litestar import Request, Response, get, post
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct

from server.api.context import SESSION_COOKIE, Site
from server.domain.accounts import Caller
from server.domain.errors import NotAllowed, NotAuthenticated, NotFound
from server.pages.login import ask_to_log_in, visitor_of
from server.pages.rendering import render
from server.services import account_overview, keyless
from server.services.identity import read_caller, verify_token

Page = Response[bytes]


class EndForm(Struct, kw_only=True):
    """Whose it is; empty for one's own account."""

    account: str = ""


@get("/account", include_in_schema=False)
async def show_account(request: Request[Any, Any, Any], site: Site, account: str | None = None) -> Page:
    """The visitor's account, or an organisation's; somebody without a session is asked to log in first."""
    going = f"/account?account={quote(account, safe='')}" if account else "/account"
    visitor = await visitor_of(request, site)
    if visitor is None:
        return ask_to_log_in(next_path=going)
    try:
        overview = await account_overview.read_overview(site.notifying, visitor, account or None)
    except (NotFound, NotAllowed) as error:
        return render("trouble.html", status=404, title="No such account", sentence=error.message)
    page = render("account.html", overview=overview, visitor=visitor, is_own=overview.account.id == visitor.id)
    # As the login form has it: under `no-referrer` a browser sends forms with `Origin: null`.
    page.headers["Referrer-Policy"] = "same-origin"
    return page


@post("/account/tokens/{token_id:str}/revoke", include_in_schema=False, status_code=303)
async def revoke_token(
    token_id: str,
    data: Annotated[EndForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Page:
    """The token ends at once."""
    visitor = await sender_of(request, site)
    return await _done(account_overview.revoke_token(site.db, visitor, data.account or None, token_id), data)


@post("/account/trusted-repositories/{trust_id:str}/remove", include_in_schema=False, status_code=303)
async def remove_repository(
    trust_id: str,
    data: Annotated[EndForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Page:
    """Its workflows' tokens end at once."""
    visitor = await sender_of(request, site)
    return await _done(keyless.remove_trust(site.db, visitor, data.account or None, trust_id), data)


async def sender_of(request: Request[Any, Any, Any], site: Site) -> Caller:
    """Whose session sent a form of this very site. Raises NotAllowed, or NotAuthenticated for a session that has ended.

    A session alone never changes anything over the API; here the Origin, which no page can forge, has to be there.
    """
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise NotAllowed("This form may only be sent from this site.")
    cookie = request.cookies.get(SESSION_COOKIE)
    if cookie is None:
        raise NotAuthenticated("The session has ended. Log in again, at /login.")
    caller = await read_caller(site.db, await verify_token(cookie, rules=site.jwt_rules))
    if not caller.is_unlimited:
        raise NotAuthenticated("The session has ended. Log in again, at /login.")
    return caller


async def _done(change: Awaitable[None], data: EndForm) -> Page:
    """Back to the account, or why nothing was changed, as people read it."""
    try:
        await change
    except (NotFound, NotAllowed) as error:
        status = 404 if isinstance(error, NotFound) else 403
        return render("trouble.html", status=status, title="Nothing was changed", sentence=error.message)
    going = f"/account?account={quote(data.account, safe='')}" if data.account else "/account"
    return Response(b"", status_code=303, headers={"Location": going})


handlers = [show_account, revoke_token, remove_repository]
