"""Who does not answer is left alone for a while, so that whoever waits for an answer holds no slot for it.

First one holder of a token alone, as its own repository may be what is slow; a whole origin only where several of its
holders met silence and none an answer, and for a short while, as they may be of one mind. Any answer ends it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

HOLDER_SILENCES: Final = 2  # in a row
ORIGIN_HOLDERS: Final = 3  # different ones
FIRST_PAUSE_SECONDS: Final = 15.0  # of a holder, doubled with each further silence; of an origin always
LONGEST_PAUSE_SECONDS: Final = 300.0
MOST_KNOWN: Final = 2000


class Silences:
    """One for a process, in memory; `holder` is whose token it is, `origin` is `scheme://host[:port]`."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._in_a_row: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._met: dict[str, set[str]] = {}  # holders that met silence since the origin's last answer
        self._until: OrderedDict[tuple[str, str], float] = OrderedDict()  # of an origin as a whole: holder ""

    def left(self, origin: str, holder: str) -> float:
        """Seconds that it is left alone for, 0.0 for one that may be asked."""
        now = self._monotonic()
        return max(self._until.get((origin, holder), now) - now, self._until.get((origin, ""), now) - now, 0.0)

    def note_answer(self, origin: str, holder: str) -> None:
        """It answered, whatever it said."""
        self._met.pop(origin, None)
        for known in (origin, holder), (origin, ""):
            self._in_a_row.pop(known, None)
            self._until.pop(known, None)

    def note_silence(self, origin: str, holder: str) -> None:
        """No answer came in time, or no connection."""
        self._count(origin, holder)
        met = self._met.setdefault(origin, set())
        met.add(holder)
        if len(met) >= ORIGIN_HOLDERS:
            self._until[origin, ""] = self._monotonic() + FIRST_PAUSE_SECONDS
            met.clear()
        self._forget_oldest()

    def _count(self, origin: str, holder: str) -> None:
        count = self._in_a_row[origin, holder] = self._in_a_row.get((origin, holder), 0) + 1
        if count >= HOLDER_SILENCES:
            pause = min(FIRST_PAUSE_SECONDS * 2.0 ** (count - HOLDER_SILENCES), LONGEST_PAUSE_SECONDS)
            self._until[origin, holder] = self._monotonic() + pause

    def _forget_oldest(self) -> None:
        for known in (self._in_a_row, self._until):
            while len(known) > MOST_KNOWN:
                known.popitem(last=False)
