"""How the service reaches repositories: as its App, with a hook's token, or with its own.

Tokens of installations are narrowed to one repository and to what is about to be done (L8). They live in memory alone,
until shortly before their end.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final, TypeVar
from uuid import UUID

import asyncpg
import httpx
from msgspec import Struct

from evals.models import Secret
from server.domain.links import Link, Right
from server.forges import FORGES, AppKind, Asking, CannotRead, Installed, Place
from server.services.posting import post
from server.services.public_addresses import INTERNET, Network
from server.services.public_client import origin_of, public_client
from server.services.sealing import Sealer

T = TypeVar("T")

# A token is used up to five minutes before its end, and never longer than this, whatever end it claims.
SPARE_SECONDS: Final = 300.0
LONGEST_USE_SECONDS: Final = 3000.0
MOST_TOKENS: Final = 2000
CONNECTIONS: Final = 30
DEFAULT_ACCOUNT: Final = "WEBHOOK_ACCOUNT"  # whose is what nobody linked, where the service is one account's


class AppKeys(Struct, frozen=True, kw_only=True):
    """What proves that we are the App."""

    app_id: str
    private_key: Secret


class _Kept(Struct, frozen=True):
    token: Secret
    good_until: float  # of the monotonic clock


class ForgeAccess:
    """One for a process. `settings` are variables by their names without `PRPM_`; close it with `aclose`."""

    def __init__(
        self,
        db: asyncpg.Pool,
        *,
        settings: Mapping[str, Secret],
        sealer: Sealer | None,
        allowed_origins: frozenset[str] = frozenset(),
        network: Network = INTERNET,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._settings = settings
        self._sealer = sealer
        self._now = now
        # Where the operator's settings lead is the operator's choice, a private network as well.
        own = frozenset(origin_of(httpx.URL(forge.api_url(settings))) for forge in FORGES.values())
        self._client = public_client(
            allowed_origins=allowed_origins | own, network=network, connections=CONNECTIONS, kept=CONNECTIONS
        )
        self._tokens: OrderedDict[tuple[str, int, int, Right], _Kept] = OrderedDict()
        self._asking_for: dict[tuple[str, int, int, Right], asyncio.Lock] = {}

    async def aclose(self) -> None:
        """Close the connections, and forget the tokens."""
        self._tokens.clear()
        await self._client.aclose()

    @property
    def default_account(self) -> str | None:
        """The name of the account whose every repository is, where the service is for one alone."""
        named = self._settings.get(DEFAULT_ACCOUNT)
        return named.reveal() if named is not None else None

    def api_url(self, forge: str) -> str:
        """Where the forge's API is."""
        return FORGES[forge].api_url(self._settings)

    def own_token(self, forge: str) -> Secret | None:
        """The service's own token, from its settings."""
        return self._settings.get(FORGES[forge].token_setting)

    async def ask(self, asking: Asking[T]) -> T:
        """What the forge says. Raises CannotRead."""
        return await post(asking, client=self._client)

    async def place(self, link: Link, *, right: Right) -> Place:
        """The repository with a token for this and no more. Raises CannotRead."""
        return Place(
            api_url=self.api_url(link.forge),
            id=link.repository.id,
            name=link.repository.name,
            token=await self._token(link, right),
        )

    async def _token(self, link: Link, right: Right) -> Secret:
        if link.installation_id is not None:
            return await self.installation_token(
                link.forge, link.installation_id, repository_id=link.repository.id, right=right
            )
        token = self.own_token(link.forge) if link.hook_id is None else await self.hook_token(link.hook_id)
        if token is None and right == "report":
            raise CannotRead("No token was given that may write to this repository.")
        return token or Secret("")

    async def hook_token(self, hook_id: UUID) -> Secret | None:
        """The token that was given with a hook; None without one. Raises CannotRead."""
        raise CannotRead("This hook is not known.")

    async def installation_token(self, forge: str, installation_id: int, *, repository_id: int, right: Right) -> Secret:
        """A token of the installation for one repository. Raises CannotRead: for a repository that it has not, too."""
        key = (forge, installation_id, repository_id, right)
        async with self._asking_for.setdefault(key, asyncio.Lock()):
            try:
                return self._remembered(key) or await self._new_token(key)
            finally:
                self._asking_for.pop(key, None)

    def _remembered(self, key: tuple[str, int, int, Right]) -> Secret | None:
        kept = self._tokens.get(key)
        if kept is None or kept.good_until <= time.monotonic():
            self._tokens.pop(key, None)
            return None
        self._tokens.move_to_end(key)
        return kept.token

    async def _new_token(self, key: tuple[str, int, int, Right]) -> Secret:
        forge, installation_id, repository_id, right = key
        app, proof = await self.proof(forge)
        granted = await self.ask(
            app.token(
                self.api_url(forge), proof, installation_id, repository_id=repository_id, rights=app.rights[right]
            )
        )
        seconds = min(_seconds_until(granted.expires_at, now=self._now()) - SPARE_SECONDS, LONGEST_USE_SECONDS)
        if seconds > 0:
            self._tokens[key] = _Kept(granted.token, time.monotonic() + seconds)
            while len(self._tokens) > MOST_TOKENS:
                self._tokens.popitem(last=False)
        return granted.token

    def forget_installation(self, forge: str, installation_id: int) -> None:
        """Its tokens are used no more: it was suspended or removed."""
        for key in [key for key in self._tokens if key[:2] == (forge, installation_id)]:
            del self._tokens[key]

    async def installation_of(self, forge: str, name: str) -> Installed | None:
        """The installation that has the repository now, by the forge's word. Raises CannotRead."""
        app, proof = await self.proof(forge)
        return await self.ask(app.installation_of(self.api_url(forge), proof, name))

    async def installation(self, forge: str, installation_id: int) -> Installed | None:
        """The installation as it is now. Raises CannotRead."""
        app, proof = await self.proof(forge)
        return await self.ask(app.installation(self.api_url(forge), proof, installation_id))

    async def proof(self, forge: str) -> tuple[AppKind, Secret]:
        """How the forge's App is asked, and a proof that we are it for some minutes. Raises CannotRead."""
        kind = FORGES[forge].app
        keys = await self.app_keys(forge)
        if kind is None or keys is None:
            raise CannotRead("This service has no App on this forge.")
        return kind, kind.proof(keys.app_id, keys.private_key, self._now())

    async def app_keys(self, forge: str) -> AppKeys | None:
        """The App's id and key; None where there is no App."""
        kind = FORGES[forge].app
        if kind is None:
            return None
        app_id, key = self._settings.get(kind.id_setting), self._settings.get(kind.key_setting)
        if app_id is None or key is None:
            return None
        # Many places that hold variables cannot hold line ends.
        return AppKeys(app_id=app_id.reveal(), private_key=Secret(key.reveal().replace("\\n", "\n")))


def _seconds_until(moment: str, *, now: float) -> float:
    try:
        until = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - now
