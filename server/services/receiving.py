"""A delivery comes in: its proof is checked over the raw bytes, it is kept once, and nothing of it is read yet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from uuid import UUID

import asyncpg
import structlog
from msgspec import Struct

from evals.models import Secret
from server.domain.errors import NotAuthenticated, NotFound
from server.store import deliveries
from server.webhooks import SOURCES, Delivery, Secrets

log = structlog.get_logger()


class Receipt(Struct, frozen=True):
    """`is_new`: False for one that was here before."""

    is_new: bool


def source_secrets(settings: Mapping[str, Secret]) -> dict[str, Secrets]:
    """Source -> its secrets by setting, for those that have any. Each setting is a list with commas."""
    found: dict[str, Secrets] = {}
    for name, source in SOURCES.items():
        secrets = {setting: _split(settings[setting]) for setting in source.secrets if setting in settings}
        if any(secrets.values()):
            found[name] = secrets
    return found


def _split(secret: Secret) -> tuple[bytes, ...]:
    return tuple(part.strip().encode() for part in secret.reveal().split(",") if part.strip())


async def receive(
    db: asyncpg.Pool,
    delivery: Delivery,
    *,
    source: str,
    secrets: Secrets | None,
    now: float,
    hook_id: UUID | None = None,
) -> Receipt:
    """The delivery is kept. `now` is Unix time.

    Raises NotFound where no secret is set (W5), and NotAuthenticated, in the same words and with nothing kept,
    for every proof that does not hold (W1 to W4).
    """
    if secrets is None or source not in SOURCES:
        raise NotFound("No webhook is set up at this address.", code="not_configured")
    if not SOURCES[source].is_authentic(delivery, secrets, now):
        raise NotAuthenticated(
            "The delivery's signature does not hold. Compare the webhook's secret with the one that is set here.",
            code="bad_signature",
        )
    named = SOURCES[source].identify(delivery)
    # A NUL is no text for PostgreSQL; a delivery without a name is named by what it holds.
    is_new = await deliveries.keep_delivery(
        db,
        source=source,
        hook_id=hook_id,
        delivery_id=_text(named.id) or f"body:{hashlib.sha256(delivery.body).hexdigest()}",
        event=_text(named.event),
        body=delivery.body,
    )
    log.info("delivery kept" if is_new else "delivery known", source=source, delivery_event=_text(named.event)[:60])
    return Receipt(is_new)


def _text(value: str) -> str:
    return "".join(char for char in value if char.isprintable())


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, tuple[str, ...]]:
    """Header name in lower case -> its values, as Latin-1, which is what HTTP gives."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        found[key] = (*found.get(key, ()), value.decode("latin-1"))
    return found
