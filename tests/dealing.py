"""Which process runs which tests: each begins with a share of those that need servers and ends with quick ones.

Processes take tests from the end of each other's shares. There should lie what needs no server: a file that is cut
in two starts its servers twice. Files that need the same servers lie together, as those that a whole run shares go on
to the end in each process that asked for them once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

Item = TypeVar("Item")


def deal(
    items: Sequence[Item],
    *,
    shares: int,
    seconds: Callable[[Item], float],
    file: Callable[[Item], str],
    servers: Callable[[Item], str] = lambda item: "",
) -> list[Item]:
    """The same items in an order whose `shares` equal parts have each as much of what is slow, whole files, first.

    `seconds`: about how long a slow one takes, 0 for a quick one. `servers`: which of the shared ones it needs.
    """
    slow, quick = [item for item in items if seconds(item)], [item for item in items if not seconds(item)]
    files = [list(of_file) for _, of_file in groupby(slow, key=file)]
    files.sort(key=lambda of_file: max(map(servers, of_file)))
    dealt: list[Item] = []
    for left in range(shares, 0, -1):
        size = (len(items) - len(dealt)) // left
        share = _first(files, seconds=seconds, at_least=sum(seconds(item) for f in files for item in f) / left)
        cut = share[size:]
        if cut:
            files.insert(0, cut)
        share = share[:size]
        missing = size - len(share)
        dealt += share + quick[:missing]
        quick = quick[missing:]
    return dealt + [item for of_file in files for item in of_file] + quick


def _first(files: list[list[Item]], *, seconds: Callable[[Item], float], at_least: float) -> list[Item]:
    found: list[Item] = []
    while files and sum(map(seconds, found)) < at_least:
        found += files.pop(0)
    return found
