"""What a process does to itself before it runs what it does not trust. Each limit is a second line of defence:
the process that started this one kills it when an answer is late.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def limit_process(*, memory_bytes: int) -> None:
    """From now on: no more memory than that (Linux), no file that grows, no core dump. Windows knows no such limits."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if sys.platform == "linux":  # macOS counts its shared libraries as well, and refuses
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


@contextmanager
def end_after(seconds: float) -> Iterator[None]:
    """Ends this process two seconds after the time is over, should the process that kills it be gone."""
    if sys.platform == "win32":
        yield
        return
    import signal

    signal.alarm(math.ceil(seconds) + 2)
    try:
        yield
    finally:
        signal.alarm(0)
