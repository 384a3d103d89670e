"""Whoever is logged in by a browser's session, for forms: a cookie alone never changes anything."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from litestar import Request, Response
from msgspec import Struct

from server.api.context import SESSION_COOKIE, Site
from server.domain.accounts import Caller
from server.domain.errors import NotAllowed, NotAuthenticated, ServiceError
from server.pages.rendering import render
from server.services.identity import read_caller, verify_token


class Session(Struct, frozen=True, kw_only=True):
    """A person in a browser. `secret` is the cookie's value."""

    caller: Caller
    secret: str


async def session_of(request: Request[Any, Any, Any], site: Site) -> Session | None:
    """None without a session that is good and a person's own."""
    cookie = request.cookies.get(SESSION_COOKIE)
    if not cookie:
        return None
    try:
        caller = await read_caller(site.db, await verify_token(cookie, rules=site.jwt_rules))
    except NotAuthenticated:
        return None
    return Session(caller=caller, secret=cookie) if caller.is_unlimited else None


def check_origin(request: Request[Any, Any, Any]) -> None:
    """A form of ours sent this. Raises NotAllowed: browsers always name the origin of a form."""
    origin = request.headers.get("origin")
    if origin is None or urlsplit(origin).netloc != request.headers.get("host"):
        raise NotAllowed("This form may only be sent from this site.")


def form_page(page: Response[bytes], *, leads_to: str = "") -> Response[bytes]:
    """A page with a form: its browser says where it was sent from, and may be led on to `leads_to` (an origin)."""
    # Under `no-referrer`, which all other answers have, a browser sends a form with `Origin: null`.
    page.headers["Referrer-Policy"] = "same-origin"
    if leads_to:
        page.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'unsafe-inline'; form-action 'self' {leads_to}; frame-ancestors 'none'; "
            "base-uri 'none'"
        )
    return page


def trouble_page(error: ServiceError, *, title: str, status: int) -> Response[bytes]:
    """A refusal, for a person."""
    return render("trouble.html", status=status, title=title, sentence=error.message)
