"""`/` and `/setup`: what this service does, and where to begin, for whoever sees it for the first time."""

from __future__ import annotations

from litestar import Response, get

from server.api.context import Site
from server.pages.rendering import render


@get("/", include_in_schema=False)
async def show_start(site: Site) -> Response[bytes]:
    """What this is, and the ways in. Asks no database: it is there as long as the process is."""
    return render("start.html", public_url=site.setup.public_url)


@get("/setup", include_in_schema=False)
async def show_ways_in() -> Response[bytes]:
    """How repositories are tested by themselves."""
    return render("setup.html")


handlers = [show_start, show_ways_in]
