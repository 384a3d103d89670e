"""`/health`: for load balancers and operators. No word of anybody's data."""

from __future__ import annotations

import asyncio

import asyncpg
from litestar import Response, get
from msgspec import Struct

from server.api.context import Site
from server.services import reading

TAGS = ["Health"]


class Health(Struct, kw_only=True):
    """`degraded` still serves: submits are accepted, jobs may start up to a second later."""

    status: str  # ok, degraded, unavailable
    services: dict[str, str]


@get("/health/live", tags=TAGS, summary="Is the process alive?")
async def live() -> Health:
    """Answers as long as the process does."""
    return Health(status="ok", services={})


@get(["/health/ready", "/health"], tags=TAGS, summary="Can it serve?")
async def ready(site: Site) -> Response[Health]:
    """200 when jobs are accepted and a worker claims them; 503 otherwise."""
    database, worker = await _ask_database(site)
    redis = await _answers(site)
    services = {
        "database": "ok" if database else "away",
        "redis": "ok" if redis else "away",
        "worker": "ok" if worker else "away",
    }
    if not (database and worker):
        return Response(Health(status="unavailable", services=services), status_code=503, headers={"Retry-After": "2"})
    return Response(Health(status="ok" if redis else "degraded", services=services))


async def _ask_database(site: Site) -> tuple[bool, bool]:
    try:
        async with asyncio.timeout(2):
            return True, await reading.is_any_worker_live(site.db)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError):
        return False, False


async def _answers(site: Site) -> bool:
    try:
        async with asyncio.timeout(2):
            return bool(await site.redis_answers())
    except TimeoutError:
        return False


handlers = [live, ready]
