"""Long work in a thread, fair to the event loop: it stands back every few milliseconds.

Python's lock goes to a waiting thread after 5 ms of Python code. Work that calls into C for short moments, such as
patterns, gives the lock up each time and takes it back before the other thread has woken up: on a busy machine the
event loop was kept waiting for 300 ms.
"""

from __future__ import annotations

import time

_WORK_SECONDS = 0.004
_PAUSE_SECONDS = 0.0002  # long enough for a waiting thread to wake up


class Turns:
    """Counts the processor time of the thread that it is made in."""

    def __init__(self) -> None:
        self._next = time.thread_time() + _WORK_SECONDS

    def step(self) -> float:
        """Lets others have their turn if it is time; the thread's processor time, in seconds."""
        now = time.thread_time()
        if now >= self._next:
            time.sleep(_PAUSE_SECONDS)
            self._next = now + _WORK_SECONDS
        return now
