"""arq's worker, which looks often while something happens and rarely while nothing does."""

from __future__ import annotations

import time
from typing import Any, Final

from arq.worker import Worker

OFTEN_SECONDS: Final = 0.02
# A worker that looked as often all night would take a twentieth of a processor for nothing.
RARELY_SECONDS: Final = 0.1
BUSY_SECONDS: Final = 10.0  # after the last wake-up


class CalmWorker(Worker):
    """Asks Redis every 20 ms until ten seconds after the last wake-up, and ten times a second then."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(poll_delay=OFTEN_SECONDS, **settings)
        self._busy_until = self._look_at = 0.0

    def heard(self) -> None:
        """Something happens: look often."""
        self._busy_until = time.monotonic() + BUSY_SECONDS
        self._look_at = 0.0

    # arq has no setting that changes while it runs. The method is its own: a test sees when it is called no more.
    async def _poll_iteration(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        await super()._poll_iteration()
        self._look_at = now if now < self._busy_until else now + RARELY_SECONDS
