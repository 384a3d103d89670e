"""`/setup/github`: the operator makes the service's App; people link its installations to accounts."""

from __future__ import annotations

import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import Cookie
from litestar.enums import RequestEncodingType
from litestar.params import Body
from msgspec import Struct

from server.api.context import Site
from server.api.errors import STATUS
from server.domain.errors import ServiceError
from server.pages.login import ask_to_log_in
from server.pages.rendering import render
from server.pages.sessions import check_origin, form_page, session_of, trouble_page
from server.services import github_setup

SETUP_COOKIE = "__Host-prpm_setup"
COOKIE_SECONDS = 3600

# For the operator, who is asked for each of them by GitHub.
WHY = {
    "checks": "the check, its progress, and its button to run again",
    "contents": "the files of packages that a change touches",
    "members": "that whoever links the App owns the organisation",
    "merge_queues": "that a merge queue asks for its check",
    "metadata": "which repositories there are; who may write, when somebody commands in a comment",
    "pull_requests": "the one comment",
    "statuses": "a commit status, where you ask for one",
}


class BeginForm(Struct, kw_only=True):
    unverified_ticket: str = ""
    organization: str = ""
    is_public: str = ""


class LinkForm(Struct, kw_only=True):
    installation_id: str = ""
    account: str = ""


@get("/setup/github", include_in_schema=False)
async def show_setup(site: Site) -> Response[bytes]:
    """Where to install the App; before there is one, and folded after that, the operator's form."""
    return await _begin_page(site)


@post("/setup/github", include_in_schema=False, status_code=200)
async def begin(
    data: Annotated[BeginForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Response[bytes]:
    """What GitHub is about to make, to be looked at and sent there by the operator's own click."""
    browser = secrets.token_urlsafe(32)
    try:
        check_origin(request)
        registration = await github_setup.begin_app(
            site.setup,
            unverified_ticket=data.unverified_ticket.strip(),
            browser=browser,
            organization=data.organization.strip(),
            is_public=bool(data.is_public),
        )
    except ServiceError as error:
        return await _begin_page(site, trouble=error.message, status=_status(error))
    page = render(
        "setup_github_manifest.html",
        url=registration.url,
        manifest=msgspec.json.encode(registration.manifest).decode(),
        permissions=[
            (right, level, WHY.get(right, ""))
            for right, level in sorted(registration.manifest["default_permissions"].items())
        ],
        events=registration.manifest["default_events"],
        name=registration.manifest["name"],
        hook_url=registration.manifest["hook_attributes"]["url"],
    )
    page.cookies.append(
        Cookie(
            key=SETUP_COOKIE,
            value=browser,
            path="/",
            secure=True,
            httponly=True,
            samesite="lax",
            max_age=COOKIE_SECONDS,
        )
    )
    return form_page(page, leads_to=_origin(registration.url))


@get("/setup/github/install", include_in_schema=False)
async def install(site: Site) -> Response[bytes]:
    """On to GitHub, where the App is installed: an address that can be told to everybody who has repositories."""
    app = await site.setup.apps.find(github_setup.FORGE)
    page_url = _web_address(app.page_url) if app is not None else ""
    if not page_url:
        return render(
            "trouble.html",
            status=404,
            title="There is no App to install here",
            sentence="The operator of this service makes one at /setup/github, or knows the App's page at GitHub.",
        )
    return Response(b"", status_code=303, headers={"Location": f"{page_url}/installations/new"})


@get("/setup/github/created", include_in_schema=False)
async def finish(request: Request[Any, Any, Any], site: Site, code: str = "") -> Response[bytes]:
    """GitHub sends the operator back here with a code for the App's keys."""
    try:
        app = await github_setup.finish_app(
            site.setup, unverified_state=_state(request), code=code, browser=request.cookies.get(SETUP_COOKIE, "")
        )
    except ServiceError as error:
        return trouble_page(error, title="The App was not set up", status=_status(error))
    return render("setup_github_made.html", page_url=_web_address(app.page_url), slug=app.slug)


@get("/setup/github/installed", include_in_schema=False)
async def show_installed(
    request: Request[Any, Any, Any], site: Site, installation_id: str = "", setup_action: str = ""
) -> Response[bytes]:
    """GitHub sends whoever installed the App here: whose account is it to be?"""
    if setup_action == "request":
        return render(
            "trouble.html",
            title="An owner has to approve it",
            sentence="Your organisation's owners were asked to install the App. Whoever approves is brought here to "
            "link it to an account.",
        )
    try:
        number = github_setup.parse_installation_id(installation_id)
        session = await session_of(request, site)
        if session is None:
            return ask_to_log_in(next_path=f"/setup/github/installed?installation_id={number}")
        return form_page(
            render(
                "setup_github_link.html",
                installation_id=number,
                accounts=await github_setup.accounts_to_link(site.db, session.caller),
            ),
            # Where the form's answer leads: a policy for forms counts there, too.
            leads_to=github_setup.web_origin(site.setup),
        )
    except ServiceError as error:
        return trouble_page(error, title="Nothing was linked", status=_status(error))


@post("/setup/github/link", include_in_schema=False, status_code=303)
async def begin_link(
    data: Annotated[LinkForm, Body(media_type=RequestEncodingType.URL_ENCODED)],
    request: Request[Any, Any, Any],
    site: Site,
) -> Response[bytes]:
    """On to GitHub, where the person says who they are."""
    try:
        check_origin(request)
        number = github_setup.parse_installation_id(data.installation_id)
        session = await session_of(request, site)
        if session is None:
            return ask_to_log_in(next_path=f"/setup/github/installed?installation_id={number}")
        url = await github_setup.begin_link(
            site.setup, session.caller, session=session.secret, account=data.account, installation_id=number
        )
    except ServiceError as error:
        return trouble_page(error, title="Nothing was linked", status=_status(error))
    return Response(b"", status_code=303, headers={"Location": url})


@get("/setup/github/callback", include_in_schema=False)
async def finish_link(request: Request[Any, Any, Any], site: Site, code: str = "") -> Response[bytes]:
    """GitHub has said who the person is: the installation is linked if it is theirs."""
    session = await session_of(request, site)
    if session is None:
        return ask_to_log_in(next_path="/", trouble="Your session has ended. Log in, and install the App once more.")
    try:
        linked = await github_setup.finish_link(
            site.setup, session.caller, session=session.secret, unverified_state=_state(request), code=code
        )
    except ServiceError as error:
        return trouble_page(error, title="Nothing was linked", status=_status(error))
    return render("setup_github_linked.html", owner=linked.owner, account=linked.account)


async def _begin_page(site: Site, *, trouble: str = "", status: int = 200) -> Response[bytes]:
    app = await site.setup.apps.find(github_setup.FORGE)
    return form_page(
        render(
            "setup_github.html",
            status=status,
            trouble=trouble,
            public_url=site.setup.public_url,
            is_local=is_local(site.setup.public_url),
            has_app=app is not None,
            has_page=app is not None and bool(_web_address(app.page_url)),
        )
    )


def is_local(url: str) -> bool:
    """Whether the address leads nowhere from another machine."""
    return (urlsplit(url).hostname or "") in ("localhost", "127.0.0.1", "::1")


def _state(request: Request[Any, Any, Any]) -> str:
    """What GitHub brings back. By hand, as the framework's handlers know another `state`."""
    found: str = request.query_params.get("state", "")
    return found


def _status(error: ServiceError) -> int:
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _web_address(url: str) -> str:
    """The forge's own word, as a link only where it is one of the web."""
    return url if urlsplit(url).scheme in ("https", "http") else ""


handlers = [show_setup, begin, install, finish, show_installed, begin_link, finish_link]
