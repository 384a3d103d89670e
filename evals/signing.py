"""Signatures of outcomes: Ed25519 (RFC 8032) over the canonical JSON of everything else in the document.

What is signed is the document with its `signature` in place, but for `signature.value`: the names of algorithm and key
cannot be exchanged either. Private keys come in as arguments; nothing here reads a file.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
from msgspec import Struct

from evals.canonical import NotCanonical, canonical_json
from evals.errors import EngineError

ALGORITHM = "ed25519"
FIELD = "signature"
# Upper-case digits would be a second spelling of the same bytes.
_PUBLIC_KEY = re.compile(r"[0-9a-f]{64}\Z")
_VALUE = re.compile(r"[0-9a-f]{128}\Z")


class NotSigned(EngineError):
    """The document has no signature that could be checked."""


class WrongSignature(EngineError):
    """The signature does not belong to this content."""


class Signature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`key` is the public key, 64 hex digits; `value` the signature, 128."""

    algorithm: str
    key: str
    value: str


def new_private_key() -> bytes:
    """32 random bytes that can sign."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().private_bytes_raw()


def public_key(private_key: bytes) -> str:
    """The public key, 64 hex digits. Raises ValueError unless the private one has 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw().hex()


def sign(document: dict[str, Any], private_key: bytes) -> dict[str, Any]:
    """The document with a signature; an earlier one is replaced. Raises NotCanonical."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    unsigned = {"algorithm": ALGORITHM, "key": public_key(private_key)}
    signed = _signed_bytes(document, unsigned)
    value = Ed25519PrivateKey.from_private_bytes(private_key).sign(signed).hex()
    return document | {FIELD: unsigned | {"value": value}}


def read_document(body: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. Raises WrongSignature for anything else, and for a key that stands twice.

    Of two equal keys one reader takes the first and another the last: such a document has no one content.
    """
    try:
        document = json.loads(body, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise WrongSignature("The file holds no signed document, or was changed after it was signed.")
    return document


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def verify(document: dict[str, Any]) -> str:
    """The public key whose owner signed exactly this content. Whose key it is, the caller has to know.

    Raises NotSigned or WrongSignature.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    signature = _signature(document)
    try:
        signed = _signed_bytes(document, {"algorithm": signature.algorithm, "key": signature.key})
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature.key)).verify(bytes.fromhex(signature.value), signed)
    except (InvalidSignature, NotCanonical, ValueError):
        raise WrongSignature("The document was changed after it was signed, or the signature is not its own.") from None
    return signature.key


def _signature(document: dict[str, Any]) -> Signature:
    if FIELD not in document:
        raise NotSigned("The document is not signed. `prpm test ... --output outcome.json` signs what it writes.")
    try:
        signature = msgspec.convert(document[FIELD], type=Signature)
    except msgspec.ValidationError:
        raise WrongSignature("The signature cannot be read: the document was changed after it was signed.") from None
    fits = _PUBLIC_KEY.match(signature.key) and _VALUE.match(signature.value)
    if signature.algorithm != ALGORITHM or not fits:
        raise WrongSignature("The signature cannot be read: the document was changed after it was signed.")
    return signature


def _signed_bytes(document: dict[str, Any], unsigned: dict[str, str]) -> bytes:
    return canonical_json(document | {FIELD: unsigned})
