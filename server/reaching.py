"""Makes what reaches forges, for the processes and commands that need it."""

from __future__ import annotations

import asyncpg

from server.services.forge_access import ForgeAccess
from server.services.sealing import sealer_of
from server.settings import Settings


def make_forge_access(db: asyncpg.Pool, settings: Settings) -> ForgeAccess:
    """To be closed with `aclose`. It asks nothing yet."""
    return ForgeAccess(
        db,
        settings=settings.plugin_secrets,
        sealer=sealer_of(settings.secret_key),
        allowed_origins=settings.notify_allowed_origins,
    )
