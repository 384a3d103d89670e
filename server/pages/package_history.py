"""`/packages/{id or name}/history`: what an account's runs of a package found, as later runs are compared with it."""

from __future__ import annotations

from typing import Any

from litestar import Request, Response, get

from server.api.context import Site
from server.api.packages import package_ref
from server.domain.errors import InvalidRequest, NotFound
from server.pages.login import ask_to_log_in, visitor_of
from server.pages.rendering import render
from server.services import histories

JOBS_A_PAGE = 30


@get("/packages/{name:str}/history", include_in_schema=False)
async def show_history(
    name: str, request: Request[Any, Any, Any], site: Site, branch: str | None = None, cursor: str | None = None
) -> Response[bytes]:
    """The visitor's own history; somebody without a session is asked to log in, whether there is one or not."""
    visitor = await visitor_of(request, site)
    if visitor is None:
        return ask_to_log_in(next_path=request.url.path)
    try:
        page = await histories.list_history(
            site.db, visitor, package_ref(name), branch=branch or None, cursor=cursor, limit=JOBS_A_PAGE
        )
    except (NotFound, InvalidRequest):
        return render("trouble.html", status=404, title="No such history", sentence="It is not there, or not yours.")
    return render("package_history.html", page=page, name=name, branch=branch)


handlers = [show_history]
