"""What handlers are given: the database, the wake-ups, the caller, the models."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import asyncpg
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.handlers import BaseRouteHandler
from litestar.params import Parameter
from msgspec import Struct

from evals.models import Secret
from server.domain.accounts import Caller, Credential
from server.domain.errors import InvalidRequest, NotAllowed, NotAuthenticated, TooMany
from server.domain.jobs import Wakeups
from server.domain.models import AnnouncedModel
from server.domain.rights import Right
from server.services import reading
from server.services.admission import Admission
from server.services.forecasting import QueueBook
from server.services.github_setup import Setup
from server.services.hooks import Hooks
from server.services.identity import JwtRules, read_caller, verify_token
from server.services.keyless import Keyless
from server.services.limiting import Doorkeeper
from server.services.notifying import Notifying
from server.services.on_behalf import token_lacks_right
from server.services.upstream_registry import UpstreamRegistry
from server.services.watching import JobWatch
from server.services.webhook_secrets import SecretBook

# A query parameter of whatever is told or done for one account.
AccountName = Annotated[
    str | None,
    Parameter(max_length=100, description="An organisation that you are a member of; your own account when left out."),
]
SESSION_COOKIE = "__Host-prpm_session"
# A token in an address ends up in logs and histories (A15).
REFUSED_QUERY = ("token", "access_token", "api_key", "jwt")


class ModelBook:
    """What the workers say they can reach, asked for at most once a second."""

    def __init__(self, db: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._clock = clock
        self._read_at = float("-inf")
        self._models: tuple[AnnouncedModel, ...] = ()

    async def read(self) -> tuple[AnnouncedModel, ...]:
        """Every model of the catalogue, reachable or not. Empty while no worker ever started."""
        if not self._models or self._clock() - self._read_at > 1.0:
            self._models = await reading.list_models(self._db)
            self._read_at = self._clock()
        return self._models


async def limit_submits(connection: ASGIConnection[Any, Any, Any, Any], _handler: BaseRouteHandler) -> None:
    """For a route's `guards`, before the body is read: as often as a token and an address may. Raises TooMany."""
    site: Site = connection.app.state.site
    token = connection.headers.get("authorization")
    await site.doorkeeper.submit(token.encode() if token else None, address=site.address_of(connection.scope))


class StreamCounts:
    """How many event streams each token has open in this process."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._open: Counter[Credential] = Counter()

    @contextmanager
    def one_more(self, credential: Credential) -> Iterator[None]:
        """Counted until the block ends. Raises TooMany."""
        if self._open[credential] >= self._most:
            raise TooMany(
                f"This token has {self._most} event streams open; close one first, or ask with ?wait=25 instead.",
                code="too_many_streams",
            )
        self._open[credential] += 1
        try:
            yield
        finally:
            self._open[credential] -= 1
            if not self._open[credential]:
                del self._open[credential]


class Site(Struct, frozen=True, kw_only=True):
    """What a process of the API holds."""

    db: asyncpg.Pool
    admission: Admission
    queue: QueueBook
    wakeups: Wakeups
    inbox_wakeups: Wakeups  # for deliveries: a flood of them is one piece of news
    jwt_rules: JwtRules
    models: ModelBook
    watch: JobWatch
    streams: StreamCounts
    redis_answers: Callable[[], Any]  # async () -> bool
    keyless: Keyless
    doorkeeper: Doorkeeper
    address_of: Callable[[Any], str]  # a request's scope -> whose connection it came on
    public_url: str | None
    signing_key: Secret | None  # signs outcomes that are shown as another job's
    notifying: Notifying
    webhook_secrets: SecretBook
    hooks: Hooks
    setup: Setup
    registry: UpstreamRegistry | None  # a registry beside this service, which keeps cases for packages
    cache_days: int  # how old an outcome may be to answer for an identical job; 0: none does


async def provide_site(state: State) -> Site:
    """The process's parts."""
    site: Site = state.site
    return site


async def provide_credential(request: Request[Any, Any, Any], site: Site) -> Credential:
    """What the token names, not looked up yet. Raises NotAuthenticated."""
    credential = await find_credential(request, site)
    if credential is None:
        raise NotAuthenticated("Send your token as `Authorization: Bearer <token>`; `prpm login` keeps one for you.")
    return credential


def allows(right: Right) -> dict[str, Right]:
    """For a route's `opt`: a token of limited scope needs this right there. A route without it is closed to them."""
    return {"right": right}


def check_scope(request: Request[Any, Any, Any], caller: Caller) -> Caller:
    """The caller, whose token is for what this route does. Raises NotAllowed."""
    right: Right | None = request.route_handler.opt.get("right")
    if not caller.is_unlimited and right not in caller.rights:
        raise token_lacks_right(right or "own")
    return caller


async def provide_caller(request: Request[Any, Any, Any], credential: Credential, site: Site) -> Caller:
    """Who asks. Raises NotAuthenticated, or NotAllowed for a token that is not for this."""
    return check_scope(request, await read_caller(site.db, credential))


async def provide_visitor(request: Request[Any, Any, Any], site: Site) -> Caller | None:
    """Who asks, None for somebody without a token. A bad token is still refused."""
    return await find_caller(request, site)


async def find_caller(request: Request[Any, Any, Any], site: Site) -> Caller | None:
    """Who asks, None for somebody without a token or session. Raises NotAuthenticated."""
    credential = await find_credential(request, site)
    return check_scope(request, await read_caller(site.db, credential)) if credential else None


async def find_credential(request: Request[Any, Any, Any], site: Site) -> Credential | None:
    """What the request shows: a token in the header or, from a browser that looks, a session."""
    if any(name in request.query_params for name in REFUSED_QUERY):
        raise InvalidRequest("Send the token in the Authorization header, never in the address.")
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, unverified_token = header.partition(" ")
        if scheme.lower() != "bearer" or not unverified_token.strip():
            raise NotAuthenticated("Send your token as `Authorization: Bearer <token>`.")
        return await verify_token(unverified_token.strip(), rules=site.jwt_rules)
    if request.method in ("GET", "HEAD") and (cookie := request.cookies.get(SESSION_COOKIE)):
        return await verify_token(cookie, rules=site.jwt_rules)
    return None


async def provide_admin(caller: Caller) -> Caller:
    """An administrator. Raises NotAllowed; what a token claims does not count (A10)."""
    if not caller.is_admin or not caller.is_unlimited:
        raise NotAllowed("Only an administrator may do this.")
    return caller


DEPENDENCIES = {
    "site": Provide(provide_site),
    "credential": Provide(provide_credential),
    "caller": Provide(provide_caller),
    "visitor": Provide(provide_visitor),
    "admin": Provide(provide_admin),
}
