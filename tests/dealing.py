"""Which process runs which tests: each begins with a share of those that need servers and ends with quick ones.

Processes take tests from the end of each other's shares. There should lie what needs no server: a file that is cut
in two starts its servers twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TypeVar

Item = TypeVar("Item")


def deal(
    items: Sequence[Item], *, shares: int, is_slow: Callable[[Item], bool], file: Callable[[Item], str]
) -> list[Item]:
    """The same items in an order whose `shares` equal parts have each as many slow ones, whole files of them, first."""
    slow, quick = [item for item in items if is_slow(item)], [item for item in items if not is_slow(item)]
    dealt: list[Item] = []
    for left in range(shares, 0, -1):
        size = (len(items) - len(dealt)) // left
        share = _whole_files(slow, at_least=len(slow) // left, file=file)[:size]
        slow = slow[len(share) :]
        missing = size - len(share)
        dealt += share + quick[:missing]
        quick = quick[missing:]
    return dealt + slow + quick


def _whole_files(items: Sequence[Item], *, at_least: int, file: Callable[[Item], str]) -> list[Item]:
    found: list[Item] = []
    for _, of_file in groupby(items, key=file):
        if len(found) >= at_least:
            break
        found += of_file
    return found
