"""The service's own App on a forge: by its settings, else the one that was made on the set-up page."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import asyncpg
import structlog
from msgspec import Struct

from evals.models import Secret
from server.domain.links import StoredApp
from server.forges import FORGES
from server.services.sealing import CannotOpen, Sealer
from server.store import links

log = structlog.get_logger()

LOOK_SECONDS = 10.0
KEY, CLIENT_SECRET, WEBHOOK_SECRET = "private_key", "client_secret", "webhook_secret"


class App(Struct, frozen=True, kw_only=True):
    """What proves that we are it, and what its people and deliveries are checked with."""

    app_id: str
    private_key: Secret
    client_id: str = ""  # "" where people cannot log in through it
    client_secret: Secret = Secret("")
    webhook_secret: Secret | None = None  # None: the settings' own
    slug: str = ""  # "" where it is not known
    page_url: str = ""


class AppBook:
    """The App of each forge. What is stored is looked at again after LOOK_SECONDS."""

    def __init__(
        self,
        db: asyncpg.Pool,
        *,
        settings: Mapping[str, Secret],
        sealer: Sealer | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._db = db
        self._settings = settings
        self._sealer = sealer
        self._clock = clock
        self._stored: dict[str, tuple[float, App | None]] = {}

    async def find(self, forge: str) -> App | None:
        """None where there is none."""
        if forge not in FORGES or FORGES[forge].app is None:
            return None
        return self._from_settings(forge) or await self._from_page(forge)

    def forget(self, forge: str) -> None:
        """Another one was stored just now."""
        self._stored.pop(forge, None)

    def _from_settings(self, forge: str) -> App | None:
        kind = FORGES[forge].app
        if kind is None:
            return None
        app_id, key = self._settings.get(kind.id_setting), self._settings.get(kind.key_setting)
        if app_id is None or key is None:
            return None
        client_id = self._settings.get(kind.client_id_setting)
        return App(
            app_id=app_id.reveal(),
            # Many places that hold variables cannot hold line ends.
            private_key=Secret(key.reveal().replace("\\n", "\n")),
            client_id=client_id.reveal() if client_id else "",
            client_secret=self._settings.get(kind.client_secret_setting, Secret("")),
        )

    async def _from_page(self, forge: str) -> App | None:
        looked_at, found = self._stored.get(forge, (float("-inf"), None))
        if self._clock() - looked_at > LOOK_SECONDS:
            stored = await links.read_app(self._db, forge)
            found = self._opened(stored) if stored is not None else None
            self._stored[forge] = (self._clock(), found)
        return found

    def _opened(self, stored: StoredApp) -> App | None:
        try:
            if self._sealer is None:
                raise CannotOpen("PRPM_SECRET_KEY is not set")
            kept = self._sealer.open_secrets(owner_of(stored.forge), stored.sealed)
        except CannotOpen as error:
            log.error("app cannot be opened", forge=stored.forge, reason=str(error))
            return None
        return App(
            app_id=stored.app_id,
            private_key=Secret(kept[KEY]),
            client_id=stored.client_id,
            client_secret=Secret(kept[CLIENT_SECRET]),
            webhook_secret=Secret(kept[WEBHOOK_SECRET]),
            slug=stored.slug,
            page_url=stored.page_url,
        )


def owner_of(forge: str) -> str:
    """The row that an App's secrets are sealed for."""
    return f"app:{forge}"
