"""`/.well-known/prpm-testing-keys.json`: the public keys that this service signs outcomes with."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from msgspec import Meta, Struct

from evals.signing import ALGORITHM
from server.api.context import Site
from server.api.timestamps import iso
from server.services import reading


class SigningKey(Struct, kw_only=True):
    """One public key. Those that are not current have signed earlier outcomes."""

    algorithm: Annotated[str, Meta(examples=[ALGORITHM])]
    key: Annotated[str, Meta(description="The public key, 64 hex digits", examples=["0f" * 32])]
    since: Annotated[str, Meta(examples=["2026-01-02T03:04:05.678Z"])]
    current: bool


class SigningKeysAnswer(Struct, kw_only=True):
    """Save this document, and `prpm verify --keys FILE` checks outcomes offline."""

    keys: list[SigningKey]


@get("/.well-known/prpm-testing-keys.json", tags=["Signatures"], summary="Public keys of this service", security=[])
async def read_signing_keys(site: Site) -> SigningKeysAnswer:
    """The keys that outcomes are signed with (Ed25519 over canonical JSON, RFC 8785), the current one first."""
    return SigningKeysAnswer(
        keys=[
            SigningKey(algorithm=ALGORITHM, key=known.key, since=iso(known.since), current=place == 0)
            for place, known in enumerate(await reading.list_signing_keys(site.db))
        ]
    )


handlers = [read_signing_keys]
