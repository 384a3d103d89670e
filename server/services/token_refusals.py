"""What forges say of tokens that were given with webhooks, kept so that whoever gave one learns that it is dead.

Without an App nobody tells that a token expired, was revoked, or lacks a right: the owner would see silence alone.
"""

from __future__ import annotations

from typing import Final, Literal
from uuid import UUID

import asyncpg
import structlog

from server.domain.links import Hook
from server.store import hooks
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

Doing = Literal["read", "report"]
# What a refusal is about: the token. A 404 may as well mean that one thing in the repository is gone; where it is the
# repository itself that was asked for, or written to, it means what the token may not see.
LOST: Final = (401, 403)
LOST_OR_UNSEEN: Final = (401, 403, 404)
MOST_KNOWN: Final = 2000


class TokenRefusals:
    """One for a process. It remembers which hooks had refusals when they were read last, so that what works costs no
    statement. Nothing here raises: what is being done matters more than the note of it."""

    def __init__(self, db: asyncpg.Pool) -> None:
        self._db = db
        self._known: dict[UUID, set[str]] = {}

    def learn(self, hook: Hook) -> None:
        """The hook as it was read just now."""
        self._known.pop(hook.id, None)
        if hook.refused:
            self._known[hook.id] = set(hook.refused)
            while len(self._known) > MOST_KNOWN:
                self._known.pop(next(iter(self._known)))

    async def note(
        self, hook_id: UUID | None, doing: Doing, *, status: int | None, reason: str, among: tuple[int, ...] = LOST
    ) -> None:
        """The forge answered so; a status that is among these is about the token, and its owner is shown the reason."""
        if hook_id is None or status not in among:
            return
        self._known.setdefault(hook_id, set()).add(doing)
        try:
            await hooks.note_refusal(self._db, hook_id, doing=doing, reason=reason)
        except DATABASE_TROUBLE as error:
            log.warning("token refusal not kept", hook=str(hook_id), reason=type(error).__name__)

    async def note_use(self, hook_id: UUID | None, doing: Doing) -> None:
        """The token works for this."""
        if hook_id is None or doing not in self._known.get(hook_id, ()):
            return
        try:
            await hooks.end_refusal(self._db, hook_id, doing=doing)
        except DATABASE_TROUBLE as error:
            log.warning("token refusal not ended", hook=str(hook_id), reason=type(error).__name__)
            return
        self._known[hook_id].discard(doing)
