"""Secrets of webhooks and Apps under another key, so that the one before can be taken out."""

from __future__ import annotations

import asyncpg

from server.services.apps import owner_of
from server.services.sealing import CannotOpen, Sealer
from server.store import hooks, setup


async def reseal_secrets(db: asyncpg.Pool, sealer: Sealer) -> tuple[int, int]:
    """How many are under the first key now, and how many no key opens. Safe to call twice, and to stop."""
    done = lost = 0
    for hook in await hooks.list_sealed(db):
        sealed = _anew(sealer, str(hook.id), hook.sealed)
        done, lost = (done + 1, lost) if sealed is not None else (done, lost + 1)
        if sealed is not None:
            await hooks.replace_sealed(db, hook, sealed)
    for forge, was in await setup.list_apps(db):
        sealed = _anew(sealer, owner_of(forge), was)
        done, lost = (done + 1, lost) if sealed is not None else (done, lost + 1)
        if sealed is not None:
            await setup.replace_app(db, forge, was, sealed)
    return done, lost


def _anew(sealer: Sealer, owner: str, was: bytes) -> bytes | None:
    try:
        return sealer.seal_secrets(owner, sealer.open_secrets(owner, was))
    except CannotOpen:
        return None
