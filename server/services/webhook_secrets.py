"""What deliveries are checked with: by source from the settings or the App that was made here, by hook from its row."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

import asyncpg

from server.services.apps import AppBook
from server.services.hooks import secrets_of_hook
from server.services.sealing import Sealer
from server.store import hooks
from server.webhooks import SOURCES, Secrets

NO_HOOK = UUID(int=0)


class SecretBook:
    """The secrets of each address that deliveries come to."""

    def __init__(
        self, db: asyncpg.Pool, *, by_settings: Mapping[str, Secrets], apps: AppBook, sealer: Sealer | None
    ) -> None:
        self._db = db
        self._by_settings = by_settings
        self._apps = apps
        self._sealer = sealer

    async def of_source(self, source: str) -> Secrets | None:
        """For deliveries to the source's own address; None where it is not set up. Settings win."""
        if source in self._by_settings:
            return self._by_settings[source]
        app = await self._apps.find(source)
        if app is None or app.webhook_secret is None or source not in SOURCES:
            return None
        return {SOURCES[source].proofs["signature"]: (app.webhook_secret.reveal().encode(),)}

    async def of_hook(self, source: str, hook_id: UUID | None) -> Secrets | None:
        """For deliveries to a hook's address; None, and as slowly, where there is none."""
        return await secrets_of_hook(self._db, self._sealer, source=source, hook_id=hook_id or NO_HOOK)

    async def note_delivery(self, hook_id: UUID) -> None:
        """An authentic delivery of the hook was kept."""
        await hooks.note_delivery(self._db, hook_id)
