"""Makes the loop that tells what has ended, for the processes that run one: PRPM_NOTIFY_FROM says which."""

from __future__ import annotations

import asyncpg

from server.database import wait_for_schema
from server.reaching import make_forge_access
from server.services.delivering import OutboxLoop, Outgoing
from server.services.forge_access import ForgeAccess
from server.services.forge_reports import ForgeReports
from server.services.sealing import sealer_of
from server.settings import Settings


def make_outbox_loop(db: asyncpg.Pool, settings: Settings, access: ForgeAccess) -> OutboxLoop:
    """A loop that is not running yet. `access` is the caller's to close, after the loop has ended."""
    outgoing = Outgoing(
        sealer=sealer_of(settings.secret_key),
        allowed_origins=settings.notify_allowed_origins,
        public_url=settings.public_url,
        forges=ForgeReports(db, access),
    )
    return OutboxLoop(db, outgoing)


async def tell(db: asyncpg.Pool, loop: OutboxLoop) -> None:
    """Run the loop once the schema is there, until cancelled."""
    await wait_for_schema(db)
    await loop.run()


async def tell_alone(db: asyncpg.Pool, settings: Settings) -> None:
    """As `tell`, with access to forges of its own."""
    access = make_forge_access(db, settings)
    try:
        await tell(db, make_outbox_loop(db, settings, access))
    finally:
        await access.aclose()
