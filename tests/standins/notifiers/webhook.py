"""A receiver of signed webhooks for the contract: checks the signature as its users do, and the size."""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace

from notifiers import Receipt
from notifiers.webhook import WebhookTarget
from tests.standins.web import Answer, Refused, Seen, StandIn

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PATH = "/hooks/prpm-d3adb33f"
SECRETS = (SECRET, PATH)


class Receiver(StandIn):
    """Keeps one body for each id."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies: dict[str, bytes] = {}

    def answer(self, seen: Seen) -> Answer:
        if seen.path != PATH:
            return Answer(status=404)
        signed = f"{seen.headers['webhook-id']}.{seen.headers['webhook-timestamp']}.".encode() + seen.body
        wanted = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(wanted, seen.headers.get("webhook-signature", "")):
            raise Refused(Answer(status=401), "a wrong signature")
        if len(seen.body) > 20_000 or not isinstance(seen.json(), dict):
            raise Refused(Answer(status=413), "a body over 20 kB, or no object")
        self.bodies[seen.headers["webhook-id"]] = seen.body
        return Answer(status=204)


def stand_in() -> Receiver:
    return Receiver()


def target_for(server: Receiver, mode: str) -> WebhookTarget:
    return WebhookTarget(url=server.url + PATH, secret=SECRET, when=mode)  # type: ignore[arg-type]  # modes


def elsewhere(target: WebhookTarget, url: str) -> WebhookTarget:
    return replace(target, url=url + PATH)


def again(target: WebhookTarget, receipt: Receipt) -> WebhookTarget:
    return target


def visible(server: Receiver) -> list[str]:
    return [body.decode() for body in server.bodies.values()]
