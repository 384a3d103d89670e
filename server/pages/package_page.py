"""`/packages/{id or name}/tests`: the results that were uploaded for a package."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get

from evals.outcome import Summary
from server.api.context import Site
from server.api.packages import package_ref
from server.domain.errors import NotFound
from server.pages.login import ask_to_log_in, visitor_of
from server.pages.rendering import render
from server.services import reading


@get("/packages/{name:str}/tests", include_in_schema=False)
async def show_package_tests(name: str, request: Request[Any, Any, Any], site: Site) -> Response[bytes]:
    """Open to everybody for public packages; for others one is asked to log in."""
    visitor = await visitor_of(request, site)
    try:
        package, page = await reading.list_results(site.db, visitor, package_ref(name), limit=50, offset=0)
    except NotFound:
        if visitor is None:
            return ask_to_log_in(next_path=request.url.path)
        return render("trouble.html", status=404, title="No such package", sentence="It is not there, or not yours.")
    results = [(result, msgspec.json.decode(result.summary, type=Summary)) for result in page.results]
    return render("package_tests.html", package=package, results=results)


handlers = [show_package_tests]
