"""`/webhooks/{source}`: the one door for what forges deliver."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from litestar import Request, post
from msgspec import Struct

from server.api.context import Site
from server.api.errors import refusals
from server.api.strict_request import check_content_type
from server.domain.errors import UnsupportedMedia
from server.services import receiving
from server.webhooks import Delivery, Secrets


class DeliveryAnswer(Struct, frozen=True):
    """That it is kept. What comes of it is seen on the check or comment, and in `prpm-testing deliveries`."""

    accepted: bool = True


@post(
    "/webhooks/{source:str}",
    status_code=202,
    tags=["webhooks"],
    summary="Deliver an event",
    security=[],
    responses=refusals(401, 404, 413, 415, 429),
)
async def deliver(source: str, request: Request[Any, Any, Any], site: Site) -> DeliveryAnswer:
    """For GitHub and GitLab. Signed deliveries are kept once and answered at once, whatever they are about."""
    address = site.address_of(request.scope)
    site.doorkeeper.check_deliverer(address)
    return await _keep(source, request, site, await site.webhook_secrets.of_source(source), address=address)


@post(
    "/webhooks/{source:str}/{hook_id:str}",
    status_code=202,
    tags=["webhooks"],
    summary="Deliver an event of one repository or group",
    security=[],
    responses=refusals(401, 404, 413, 415, 429),
)
async def deliver_to_hook(source: str, hook_id: str, request: Request[Any, Any, Any], site: Site) -> DeliveryAnswer:
    """To the address of a webhook of its own. A removed one answers as one that never was."""
    address = site.address_of(request.scope)
    site.doorkeeper.check_deliverer(address)
    own = parse_hook_id(hook_id)
    secrets = await site.webhook_secrets.of_hook(source, own)
    answer = await _keep(source, request, site, secrets, address=address, hook_id=own)
    if own is not None:
        await site.webhook_secrets.note_delivery(own)
    return answer


def parse_hook_id(text: str) -> UUID | None:
    """None for what is no id: it names no hook."""
    try:
        return UUID(text) if len(text) == 36 else None
    except ValueError:
        return None


async def _keep(
    source: str,
    request: Request[Any, Any, Any],
    site: Site,
    secrets: Secrets | None,
    *,
    address: str,
    hook_id: UUID | None = None,
) -> DeliveryAnswer:
    # In this order, so that an address that is not set up tells nothing about what it would want.
    if secrets is not None:
        _check_form(request.headers.get("content-type"))
    delivery = Delivery(receiving.header_values(request.scope["headers"]), await request.body())
    receipt = await receiving.receive(
        site.db,
        delivery,
        source=source,
        secrets=secrets,
        now=time.time(),
        hook_id=hook_id,
        doorkeeper=site.doorkeeper,
        address=address,
    )
    if receipt.is_new:
        await site.inbox_wakeups.wake()
    return DeliveryAnswer()


def _check_form(content_type: str | None) -> None:
    if (content_type or "").partition(";")[0].strip().lower() == "application/x-www-form-urlencoded":
        raise UnsupportedMedia("Set the webhook's content type to application/json; forms are not read.")
    check_content_type(content_type)


handlers = [deliver, deliver_to_hook]
