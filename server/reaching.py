"""Makes what reaches forges, for the processes and commands that need it."""

from __future__ import annotations

import asyncio

import asyncpg

from server.database import wait_for_schema
from server.services.apps import AppBook
from server.services.catching_up import CatchUpLoop
from server.services.forge_access import ForgeAccess
from server.services.keyless import read_issuers
from server.services.missing import MissedLoop
from server.services.sealing import sealer_of
from server.settings import Settings


def make_forge_access(db: asyncpg.Pool, settings: Settings, *, apps: AppBook | None = None) -> ForgeAccess:
    """To be closed with `aclose`. It asks nothing yet."""
    return ForgeAccess(
        db,
        settings=settings.plugin_secrets,
        sealer=sealer_of(settings.secret_key),
        apps=apps,
        issuers=[(issuer.kind.forge, issuer.url) for issuer in read_issuers(settings.oidc_issuers).values()],
        allowed_origins=settings.notify_allowed_origins,
    )


async def look_for_missed(db: asyncpg.Pool, access: ForgeAccess) -> None:
    """Ask forges for what they sent while nobody answered, once the schema is there, until cancelled."""
    await wait_for_schema(db)
    async with asyncio.TaskGroup() as looking:
        looking.create_task(MissedLoop(db, access).run())
        looking.create_task(CatchUpLoop(db, access).run())
