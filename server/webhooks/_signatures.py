"""Proofs over raw bytes, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

TOLERANCE_SECONDS = 300.0  # https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
MOST_SIGNATURES = 10


def is_hmac_hex(signature: str, body: bytes, secrets: Iterable[bytes]) -> bool:
    """Whether the 64 hex digits are the body's HMAC-SHA256 by one of the secrets."""
    # Bytes, as compare_digest raises TypeError for text that is not ASCII (W4).
    given = signature.encode("utf-8", "replace")
    return _any(
        hmac.compare_digest(hmac.new(secret, body, hashlib.sha256).hexdigest().encode(), given) for secret in secrets
    )


def is_standard_webhook(
    *, message_id: str, timestamp: str, signatures: str, body: bytes, secrets: Iterable[bytes], now: float
) -> bool:
    """Whether one of the `v1,BASE64` signatures is right and the time is within five minutes of `now` (W8)."""
    if not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > 15:
        return False
    if abs(now - int(timestamp)) > TOLERANCE_SECONDS:
        return False
    signed = b"%s.%s.%s" % (message_id.encode("utf-8", "replace"), timestamp.encode(), body)
    given = [found for text in signatures.split(" ")[:MOST_SIGNATURES] if (found := _v1(text)) is not None]
    expected = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
    return _any(hmac.compare_digest(one, other) for one in given for other in expected)


def is_token(given: str, secrets: Iterable[bytes]) -> bool:
    """Whether the text is one of the secrets. Hashed first, so that lengths tell nothing either."""
    digest = hashlib.sha256(given.encode("utf-8", "replace")).digest()
    return _any(hmac.compare_digest(hashlib.sha256(secret).digest(), digest) for secret in secrets)


def signing_key(secret: bytes) -> bytes:
    """The bytes of `whsec_BASE64`; a text without that prefix is taken as it is. Raises ValueError for bad Base64."""
    if not secret.startswith(b"whsec_"):
        return secret
    return base64.b64decode(secret.removeprefix(b"whsec_"), validate=True)


def _v1(text: str) -> bytes | None:
    version, _, encoded = text.partition(",")
    try:
        return base64.b64decode(encoded, validate=True) if version == "v1" else None
    except (binascii.Error, ValueError):
        return None


def _any(results: Iterable[bool]) -> bool:
    """As `any`, but every result is made: how long it takes does not tell which secret was right."""
    return any(list(results))
