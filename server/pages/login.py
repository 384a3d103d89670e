"""`/login`: a browser exchanges a token for a session."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct

from server.api.context import SESSION_COOKIE, Site, find_caller
from server.domain.accounts import Caller
from server.domain.errors import NotAllowed, NotAuthenticated
from server.pages.rendering import render
from server.services.identity import SESSION_SECONDS, identify, open_session


class LoginForm(Struct, kw_only=True):
    unverified_token: str = ""
    next: str = "/"


async def visitor_of(request: Request[Any, Any, Any], site: Site) -> Caller | None:
    """Who looks at a page; a session that has ended counts as none."""
    try:
        return await find_caller(request, site)
    except NotAuthenticated:
        return None


def ask_to_log_in(*, next_path: str, trouble: str = "") -> Response[bytes]:
    """The form, as an answer to somebody who is not known."""
    return _form(status=401, next_path=next_path, trouble=trouble)


@get("/login", include_in_schema=False)
async def show_login() -> Response[bytes]:
    """The form."""
    return _form(status=200, next_path="/", trouble="")


@post("/login", include_in_schema=False, status_code=303)
async def log_in(
    data: Annotated[LoginForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Response[Any]:
    """Sets the session's cookie and goes on to `next`, which stays on this site."""
    _check_origin(request)
    going = safe_path(data.next)
    try:
        caller = await identify(site.db, data.unverified_token.strip(), rules=site.jwt_rules)
    except NotAuthenticated as error:
        return ask_to_log_in(next_path=going, trouble=error.message)
    if not caller.is_unlimited:
        return ask_to_log_in(next_path=going, trouble="This token is for programs. Take one of your own: `prpm login`.")
    session = await open_session(site.db, caller)
    return Response(
        b"",
        status_code=303,
        headers={"Location": going},
        cookies=[
            Cookie(
                key=SESSION_COOKIE,
                value=session.token,
                path="/",
                secure=True,
                httponly=True,
                samesite="lax",
                max_age=int(SESSION_SECONDS),
            )
        ],
    )


def _form(*, status: int, next_path: str, trouble: str) -> Response[bytes]:
    page = render("login.html", status=status, next=next_path, trouble=trouble)
    # Under `no-referrer`, which all other answers have, a browser sends a form with `Origin: null`.
    page.headers["Referrer-Policy"] = "same-origin"
    return page


def safe_path(path: str) -> str:
    """A path on this site, else the start page: no open redirect."""
    parts = urlsplit(path)
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine and not parts.scheme and not parts.netloc else "/"


def _check_origin(request: Request[Any, Any, Any]) -> None:
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise NotAllowed("This form may only be sent from this site.")


handlers = [show_login, log_in]
