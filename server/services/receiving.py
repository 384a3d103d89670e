"""A delivery comes in: its proof is checked over the raw bytes, it is kept once, and nothing of it is read yet."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable, Mapping
from uuid import UUID

import asyncpg
import structlog
from msgspec import Struct

from evals.models import Secret
from server.domain.errors import NotAuthenticated, NotFound
from server.services.limiting import Doorkeeper
from server.store import deliveries
from server.webhooks import SOURCES, Delivery, Secrets, Source

log = structlog.get_logger()

LARGE_BYTES = 256 * 1024  # from here on a look at the body takes a millisecond or more


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
    doorkeeper: Doorkeeper,
    address: str,
) -> Receipt:
    """The delivery is kept. `now` is Unix time; `address` is whose connection it came on.

    Raises NotFound where no secret is set (W5), and NotAuthenticated, in the same words and with nothing kept,
    for every proof that does not hold (W1 to W4); TooMany for an address that goes on with either.
    """
    if secrets is None or source not in SOURCES:
        await doorkeeper.bad_delivery(address)
        raise NotFound("No webhook is set up at this address.", code="not_configured")
    about = await _about(delivery, SOURCES[source], secrets, now)
    if about is None:
        await doorkeeper.bad_delivery(address)
        raise NotAuthenticated(
            "The delivery's signature does not hold. Compare the webhook's secret with the one that is set here.",
            code="bad_signature",
        )
    named = SOURCES[source].identify(delivery)
    # Never refused: forges give up addresses that answer 4xx. Beyond its rate it is handled when its turn comes.
    whose = f"{source} {hook_id if hook_id is not None else about}"
    in_seconds = doorkeeper.delivery(whose, address=address)
    # A NUL is no text for PostgreSQL; a delivery without a name is named by what it holds.
    is_new = await deliveries.keep_delivery(
        db,
        source=source,
        hook_id=hook_id,
        delivery_id=_text(named.id) or f"body:{hashlib.sha256(delivery.body).hexdigest()}",
        event=_text(named.event),
        body=delivery.body,
        in_seconds=in_seconds,
        holder=whose if hook_id is not None or about else "",
    )
    log.info("delivery kept" if is_new else "delivery known", source=source, delivery_event=_text(named.event)[:60])
    return Receipt(is_new)


async def _about(delivery: Delivery, source: Source, secrets: Secrets, now: float) -> str | None:
    """Whose delivery it is, None for one that is not authentic. What takes a while is done beside the event loop."""

    def look() -> str | None:
        return source.about(delivery.body) if source.is_authentic(delivery, secrets, now) else None

    return await asyncio.to_thread(look) if len(delivery.body) > LARGE_BYTES else look()


def _text(value: str) -> str:
    return "".join(char for char in value if char.isprintable())


def header_values(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, tuple[str, ...]]:
    """Header name in lower case -> its values, as Latin-1, which is what HTTP gives."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in headers:
        key = name.decode("latin-1").lower()
        found[key] = (*found.get(key, ()), value.decode("latin-1"))
    return found
