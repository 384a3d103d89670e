"""What an event of a forge asks for is done: jobs are submitted, ended, run again, and links kept true."""

from __future__ import annotations

import asyncpg

from server.domain.deliveries import Ended
from server.domain.events import LinkChanged, Meaning


async def act(db: asyncpg.Pool, meaning: Meaning) -> Ended:
    """What came of it. Raises TryLater."""
    if isinstance(meaning, LinkChanged):
        return Ended("ignored", "No account is linked to this installation.")
    return Ended("ignored", "No account is linked to this repository.")
