"""Deliveries as forges send them: recorded payloads, changed where a test says so, and signed."""

from __future__ import annotations

import base64
import copy
import hashlib
import hmac
import json
import time
import uuid
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples" / "webhooks"


def a_payload(name: str, **changes: Any) -> dict[str, Any]:
    """`github/push.new_branch`, with members replaced; a dotted path reaches into it (`pull_request__head__sha`)."""
    payload: dict[str, Any] = copy.deepcopy(json.loads((SAMPLES / f"{name}.json").read_text()))
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = payload
        for parent in parents:
            place = place[parent]
        place[last] = value
    return payload


def encoded(payload: Any) -> bytes:
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def github_headers(
    body: bytes, *, secret: str, event: str = "pull_request", delivery: str | None = None
) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": delivery or str(uuid.uuid4()),
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
    }


def gitlab_headers(
    body: bytes,
    *,
    signing: str | None = None,
    token: str | None = None,
    event: str = "Merge Request Hook",
    delivery: str | None = None,
    at: float | None = None,
) -> dict[str, str]:
    """`signing` is `whsec_BASE64`."""
    name = delivery or str(uuid.uuid4())
    headers = {"Content-Type": "application/json", "X-Gitlab-Event": event, "Idempotency-Key": name}
    if token is not None:
        headers["X-Gitlab-Token"] = token
    if signing is not None:
        timestamp = str(int(time.time() if at is None else at))
        key = base64.b64decode(signing.removeprefix("whsec_"))
        signature = hmac.new(key, f"{name}.{timestamp}.".encode() + body, hashlib.sha256).digest()
        headers |= {
            "webhook-id": name,
            "webhook-timestamp": timestamp,
            "webhook-signature": "v1," + base64.b64encode(signature).decode(),
        }
    return headers
