"""The service's signature on outcomes: its key is made of a secret of the settings, and only public keys are stored."""

from __future__ import annotations

import asyncio

import asyncpg
import msgspec
import structlog
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from evals.canonical import NotCanonical
from evals.models import Secret
from evals.signing import public_key, read_document, sign
from server.domain.jobs import JobEnd
from server.store import signing_keys

log = structlog.get_logger()

# What the secret is used for; another purpose, or another form of signatures, gets another text.
PURPOSE = b"prpm-testing: signatures of outcomes, 1"


def signing_key(secret: Secret | None) -> Secret | None:
    """The private key, 64 hex digits, that this secret stands for; of several (by commas) the first. None: none."""
    if secret is None:
        return None
    first = secret.reveal().split(",")[0].strip()
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(first.encode())
    return Secret(key.hex())


async def announce_key(db: asyncpg.Pool, key: Secret | None) -> None:
    """Everybody can read the public key, also once another has taken its place. Safe to call again."""
    if key is not None:
        await signing_keys.note_key(db, public_key(bytes.fromhex(key.reveal())))


async def signed_end(end: JobEnd, key: Secret | None) -> JobEnd:
    """The end with its outcome signed; as it is without a key or an outcome."""
    if key is None or end.outcome is None:
        return end
    return msgspec.structs.replace(end, outcome=await asyncio.to_thread(signed_text, end.outcome, key))


def signed_text(outcome: str, key: Secret) -> str:
    """The outcome's JSON with a signature. What has no canonical form stays unsigned: it is somebody's odd answer."""
    try:
        signed = sign(read_document(outcome.encode()), bytes.fromhex(key.reveal()))
    except NotCanonical as error:
        log.warning("outcome not signed", reason=type(error).__name__)
        return outcome
    return msgspec.json.encode(signed).decode()
