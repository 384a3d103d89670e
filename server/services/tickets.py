"""What opens a step of a set-up once: random, kept as a hash, for one purpose, one browser, and a while."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Any

import asyncpg
import msgspec

from server.domain.errors import NotAllowed
from server.store import setup

OPERATOR, MANIFEST, LINK = "operator", "manifest", "link"
OPERATOR_SECONDS = 3600.0
STATE_SECONDS = 3600.0  # as long as GitHub's code of a manifest works
LINK_SECONDS = 600.0
LONGEST = 200


async def issue_ticket(
    db: asyncpg.Pool, purpose: str, *, seconds: float, holder: str = "", facts: Mapping[str, Any] | None = None
) -> str:
    """The ticket in clear. `holder` is what the browser that brings it back has to hold."""
    ticket = secrets.token_urlsafe(32)
    await setup.add_ticket(
        db,
        ticket_hash=_hash(ticket),
        purpose=purpose,
        holder=_hash(holder) if holder else "",
        facts=msgspec.json.encode(dict(facts or {})).decode(),
        seconds=seconds,
    )
    return ticket


async def use_ticket(db: asyncpg.Pool, purpose: str, unverified: str, *, holder: str = "") -> dict[str, Any]:
    """The ticket's facts, this once. Raises NotAllowed, in the same words whatever was wrong with it."""
    facts = None
    if 0 < len(unverified) <= LONGEST:
        facts = await setup.use_ticket(
            db, ticket_hash=_hash(unverified), purpose=purpose, holder=_hash(holder) if holder else ""
        )
    if facts is None:
        raise NotAllowed(
            "This step was not begun in this browser, was done before, or took too long. Begin again.",
            code="setup_not_open",
        )
    found: dict[str, Any] = msgspec.json.decode(facts)
    return found


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
