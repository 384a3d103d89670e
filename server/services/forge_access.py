"""How the service reaches repositories: as its App, with a hook's token, or with its own.

Tokens of installations are narrowed to one repository and to what is about to be done (L8). They live in memory alone,
until shortly before their end.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import asyncpg
import httpx
from msgspec import Struct

from evals.models import Secret
from server.domain.links import Link, Right
from server.forges import FORGES, AppKind, Asking, CannotRead, Installed, Listed, Place
from server.services.apps import AppBook
from server.services.hooks import HOOK_TOKEN
from server.services.manifest_names import ManifestNames
from server.services.posting import post
from server.services.public_addresses import INTERNET, Network
from server.services.public_client import origin_of, public_client
from server.services.sealing import CannotOpen, Sealer
from server.services.silences import Silences
from server.services.token_refusals import TokenRefusals
from server.store import hooks

T = TypeVar("T")

# A token is used up to five minutes before its end, and never longer than this, whatever end it claims.
SPARE_SECONDS: Final = 300.0
LONGEST_USE_SECONDS: Final = 3000.0
MOST_TOKENS: Final = 2000
SILENT: Final = "The forge did not answer lately, so it is left alone for a while."
# More than all handlers can use at once: none waits for a connection that a silent forge holds.
CONNECTIONS: Final = 400
KEPT_CONNECTIONS: Final = 30
DEFAULT_ACCOUNT: Final = "WEBHOOK_ACCOUNT"  # whose is what nobody linked, where the service is one account's

# Where an API and its issuer have different hosts: https://docs.github.com/en/actions/reference/security/oidc
ISSUER_HOSTS: Final = {"api.github.com": "token.actions.githubusercontent.com"}


class _Kept(Struct, frozen=True):
    token: Secret
    good_until: float  # of the monotonic clock


class ForgeAccess:
    """One for a process. `settings` are variables by their names without `PRPM_`; close it with `aclose`.

    `issuers`: forges, and whose tokens their workflows show.
    """

    def __init__(
        self,
        db: asyncpg.Pool,
        *,
        settings: Mapping[str, Secret],
        sealer: Sealer | None,
        apps: AppBook | None = None,
        issuers: Sequence[tuple[str, str]] = (),
        allowed_origins: frozenset[str] = frozenset(),
        network: Network = INTERNET,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self.apps = apps or AppBook(db, settings=settings, sealer=sealer)
        self._settings = settings
        self.manifest_names = ManifestNames()
        self.silences = Silences()
        self.refusals = TokenRefusals(db)
        self._sealer = sealer
        self._issuers = issuers
        self._now = now
        # Where the operator's settings lead is the operator's choice, a private network as well.
        own = frozenset(origin_of(httpx.URL(forge.api_url(settings))) for forge in FORGES.values())
        self._client = public_client(
            allowed_origins=allowed_origins | own, network=network, connections=CONNECTIONS, kept=KEPT_CONNECTIONS
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

    def issuer(self, forge: str) -> str | None:
        """Whose tokens the workflows of this very forge show; None where that is not sure.

        Numbers of repositories mean nothing at another server: an issuer that does not stand for the API's host would
        let a stranger's repository with the same number pass for a linked one.
        """
        host = urlsplit(self.api_url(forge)).hostname
        hosts = {host, ISSUER_HOSTS.get(host or "", host)}
        return next((url for name, url in self._issuers if name == forge and urlsplit(url).hostname in hosts), None)

    def own_token(self, forge: str) -> Secret | None:
        """The service's own token, from its settings."""
        return self._settings.get(FORGES[forge].token_setting)

    async def ask(self, asking: Asking[T]) -> T:
        """What the forge says. Raises CannotRead."""
        return await post(asking, client=self._client)

    def origin(self, forge: str) -> str:
        """`scheme://host[:port]` of the forge's API."""
        return origin_of(httpx.URL(self.api_url(forge)))

    async def ask_for(self, link: Link, asking: Asking[T]) -> T:
        """As `ask`, for one repository, whose silence is remembered: then it is not asked for a while."""
        origin, holder = self.origin(link.forge), link.holder
        if left := self.silences.left(origin, holder):
            asking.close()
            raise CannotRead(SILENT, retryable=True, seconds=left)
        try:
            found = await self.ask(asking)
        except CannotRead as error:
            if error.is_silence:
                self.silences.note_silence(origin, holder)
            else:
                self.silences.note_answer(origin, holder)
            if not error.retryable:
                await self.refusals.note(link.hook_id, "read", status=error.status, reason=str(error))
            raise
        self.silences.note_answer(origin, holder)
        await self.refusals.note_use(link.hook_id, "read")
        return found

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
        hook = await hooks.read_hook(self._db, hook_id)
        if hook is None:
            raise CannotRead("The webhook of this repository was removed.")
        self.refusals.learn(hook)
        if hook.token_shown is None:
            return None
        if self._sealer is None:
            raise CannotRead("The operator has to set PRPM_SECRET_KEY: no token can be opened.", retryable=True)
        try:
            return Secret(self._sealer.open_secrets(str(hook.id), hook.sealed)[HOOK_TOKEN])
        except CannotOpen as error:
            raise CannotRead(f"The token cannot be opened: {error}.", retryable=True) from None

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

    async def repositories(self, forge: str, installation_id: int) -> Listed:
        """What the installation has now. Raises CannotRead."""
        app, proof = await self.proof(forge)
        api_url = self.api_url(forge)
        granted = await self.ask(app.token(api_url, proof, installation_id, repository_id=None, rights=app.list_rights))
        return await self.ask(app.repositories(api_url, granted.token))

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
        app = await self.apps.find(forge)
        if kind is None or app is None:
            raise CannotRead("This service has no App on this forge.")
        return kind, kind.proof(app.app_id, app.private_key, self._now())

    async def has_app(self, forge: str) -> bool:
        """Whether this service has an App there."""
        return await self.apps.find(forge) is not None


def _seconds_until(moment: str, *, now: float) -> float:
    try:
        until = datetime.fromisoformat(moment)
    except ValueError:
        return 0.0
    return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - now
