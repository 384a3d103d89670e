"""The API process: builds the pool, the clients and the routes. It holds no vendor's key and imports no litellm."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import pkgutil
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, cast

from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from redis.exceptions import RedisError

from server.api.context import DEPENDENCIES, ModelBook, Site, StreamCounts
from server.api.errors import EXCEPTION_HANDLERS
from server.api.guards import ASGIApp, add_headers, answer_head, keep_encoded_slashes, limit_bodies
from server.api.guessing import GuessBook, limit_guesses, read_proxies
from server.api.strict_request import StrictRequest
from server.api.waiting import wait_outside
from server.database import connect_database, connect_directly, wait_for_schema
from server.open_files import free_files
from server.pages.docs_page import DocsPage
from server.services.admission import Admission
from server.services.apps import AppBook
from server.services.door_watch import watch_door
from server.services.forecasting import QueueBook
from server.services.github_setup import Setup
from server.services.hooks import Hooks
from server.services.identity import JwtRules
from server.services.keyless import Keyless, read_issuers
from server.services.limiting import Doorkeeper, RateLimits
from server.services.notifying import Notifying
from server.services.outcome_signing import signing_key
from server.services.proving import api_urls
from server.services.rates import RateBook
from server.services.receiving import source_secrets
from server.services.sealing import sealer_of
from server.services.signing_keys import SigningKeys
from server.services.upstream_registry import UpstreamRegistry
from server.services.watching import JobWatch
from server.services.webhook_secrets import SecretBook
from server.settings import Settings
from server.tasks.wakeups import ArqWakeups, RareWakeups, connect_redis


class LeanLitestar(Litestar):
    """Without the plug-ins for pydantic and attrs, which it loads by itself where other libraries have brought them.

    That is a tenth of the process's memory, for nothing.
    """

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [*plugins, MsgspecDIPlugin()]


if TYPE_CHECKING:
    from server.services.forge_access import ForgeAccess


def find_handlers(*packages: str) -> list[Any]:
    """Every module of these folders that has `handlers`: a new group of routes is a new file."""
    found: list[Any] = []
    for package in packages:
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            found += getattr(importlib.import_module(f"{package}.{module.name}"), "handlers", [])
    return found


def rate_limits(settings: Settings) -> RateLimits:
    """How often each caller may come to the doors."""
    return RateLimits(
        submits=settings.submits_per_minute,
        exchanges=settings.exchanges_per_minute,
        requests=settings.requests_per_minute,
        deliveries=settings.deliveries_per_minute,
        bad_deliveries=settings.bad_deliveries_per_minute,
    )


def make_app(settings: Settings, *, stopping: asyncio.Event | None = None) -> ASGIApp:
    """The ASGI app with everything before it. Once `stopping` is set, whoever waits for a job is answered."""
    guesses = GuessBook(settings.guesses_per_minute, proxies=read_proxies(settings.trusted_proxies))
    keyless = Keyless(
        issuers=read_issuers(settings.oidc_issuers, api_urls=api_urls(settings.plugin_secrets)),
        audience=settings.public_url or f"http://{settings.host}:{settings.port}",
    )
    litestar = LeanLitestar(
        route_handlers=find_handlers("server.api", "server.pages"),
        lifespan=[lambda app: open_site(app, settings, stopping or asyncio.Event(), keyless=keyless, guesses=guesses)],
        dependencies=DEPENDENCIES,
        exception_handlers=EXCEPTION_HANDLERS,
        request_class=StrictRequest,
        logging_config=None,  # server/logs.py has set logging up, one JSON line an event
        request_max_body_size=11 * 1024 * 1024,
        openapi_config=OpenAPIConfig(
            title="prpm-testing",
            version="1",
            description="Tests AI prompt packages on the models that matter.",
            path="/docs",
            use_handler_docstrings=True,
            components=Components(security_schemes={"token": SecurityScheme(type="http", scheme="bearer")}),
            security=[{"token": []}],
            render_plugins=[DocsPage()],
        ),
    )
    guarded = answer_head(keep_encoded_slashes(limit_bodies(cast(ASGIApp, litestar))))
    return add_headers(limit_guesses(wait_outside(guarded), guesses))


@contextlib.asynccontextmanager
async def open_site(
    app: Litestar, settings: Settings, stopping: asyncio.Event, *, keyless: Keyless, guesses: GuessBook
) -> AsyncGenerator[None, None]:
    """Everything that the process holds, closed again at its end."""
    db = await connect_database(settings.require_database(), most_connections=40)
    redis = connect_redis(settings.require_redis(), attempts=1)
    guesses.share(redis)
    wakeups = ArqWakeups(redis)
    await wakeups.start()

    async def redis_answers() -> bool:
        try:
            return bool(await redis.ping())
        except (RedisError, OSError):
            return False

    sealer = sealer_of(settings.secret_key)
    apps = AppBook(db, settings=settings.plugin_secrets, sealer=sealer)
    reached: list[ForgeAccess] = []

    def reach() -> ForgeAccess:
        from server.reaching import make_forge_access  # here, as it brings the HTTP client along

        if not reached:
            reached.append(make_forge_access(db, settings, apps=apps))
        return reached[0]

    queue = QueueBook(db)
    doorkeeper = Doorkeeper(RateBook(redis), rate_limits(settings))
    watch = JobWatch(db, connect=lambda: connect_directly(settings), most_readers=free_files())

    async def end_waits() -> None:
        await stopping.wait()
        watch.close()

    async def note_open() -> None:
        await wait_for_schema(db)
        await watch_door(db)

    watching = [
        asyncio.create_task(watch.run(), name="job watch"),
        asyncio.create_task(end_waits(), name="end waits"),
        asyncio.create_task(note_open(), name="door watch"),
    ]
    if settings.notify_from == "api":
        from server.reaching import look_for_missed  # here, as it brings the HTTP client along
        from server.telling import tell_alone  # as above

        watching.append(asyncio.create_task(tell_alone(db, settings), name="outbox"))
        watching.append(asyncio.create_task(look_for_missed(db, reach()), name="missed deliveries"))
    app.state.site = Site(
        db=db,
        queue=queue,
        admission=Admission(db, queue),
        wakeups=wakeups,
        inbox_wakeups=RareWakeups(wakeups, pause_seconds=0.1),
        jwt_rules=JwtRules(
            shared_secret=settings.jwt_secret.reveal() if settings.jwt_secret else None,
            keys=SigningKeys(settings.jwks_url) if settings.jwks_url else None,
        ),
        models=ModelBook(db),
        watch=watch,
        streams=StreamCounts(most=settings.streams_per_token),
        redis_answers=redis_answers,
        keyless=keyless,
        doorkeeper=doorkeeper,
        address_of=guesses.address_of,
        public_url=settings.public_url,
        signing_key=signing_key(settings.signing_key),
        notifying=Notifying(db=db, sealer=sealer, allowed_origins=settings.notify_allowed_origins),
        webhook_secrets=SecretBook(db, by_settings=source_secrets(settings.plugin_secrets), apps=apps, sealer=sealer),
        setup=Setup(db=db, apps=apps, reach=reach, sealer=sealer, public_url=keyless.audience),
        hooks=Hooks(db=db, reach=reach, sealer=sealer, public_url=keyless.audience),
        registry=UpstreamRegistry(settings.upstream_registry_url) if settings.upstream_registry_url else None,
        cache_days=settings.cache_days,
    )
    try:
        yield
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await doorkeeper.aclose()
        for access in reached:
            await access.aclose()
        await wakeups.aclose()
        await db.close()
