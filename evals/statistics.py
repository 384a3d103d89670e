"""Counts of passed and failed trials -> intervals, p-values and which of many claims stand. Pure, exact, no libraries.

Everything here takes and returns plain numbers; what is compared with what is decided in comparison.py.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from msgspec import Struct

# The 97.5 % point of the normal distribution: intervals cover 95 %.
Z_95 = 1.959963984540054


class Counts(Struct, frozen=True):
    """Trials with a verdict. Errors and skipped trials are in neither number: they say nothing about the package."""

    passed: int = 0
    failed: int = 0

    def __post_init__(self) -> None:
        if self.passed < 0 or self.failed < 0:
            raise ValueError("counts cannot be negative")

    @property
    def total(self) -> int:
        return self.passed + self.failed

    @property
    def pass_rate(self) -> float:
        """Share of passed trials, 0..1; 0 when there is none."""
        return self.passed / self.total if self.total else 0.0

    def plus(self, other: Counts) -> Counts:
        """Both together."""
        return Counts(self.passed + other.passed, self.failed + other.failed)


class Interval(Struct, frozen=True):
    """Where a pass rate lies, 0..1, both ends included."""

    low: float
    high: float


def wilson_interval(counts: Counts, *, z: float = Z_95) -> Interval:
    """Where the true pass rate lies with 95 % confidence; 0..1 when nothing is known.

    Wilson's score interval (1927): unlike the textbook one it stays inside 0..1 and is honest for 5 of 5.
    """
    total = counts.total
    if total == 0:
        return Interval(0.0, 1.0)
    rate, square = counts.pass_rate, z * z
    middle = (rate + square / (2 * total)) / (1 + square / total)
    half = z / (1 + square / total) * math.sqrt(rate * (1 - rate) / total + square / (4 * total * total))
    # The ends are exact where algebra says so; floating point would give 5e-17 and 0.9999999999999999.
    low = 0.0 if counts.passed == 0 else middle - half
    high = 1.0 if counts.failed == 0 else middle + half
    return Interval(low, high)


def fisher_drop(base: Counts, head: Counts) -> float:
    """One-sided p-value of Fisher's exact test: head passes as rarely as this, or more rarely, by chance alone.

    1 when either side has no trial.
    """
    table = _Tables(base, head)
    return table.share(weight for passed, weight in table.weights() if passed <= head.passed)


def fisher_rise(base: Counts, head: Counts) -> float:
    """One-sided p-value the other way: head passes as often as this, or more often, by chance alone."""
    table = _Tables(base, head)
    return table.share(weight for passed, weight in table.weights() if passed >= head.passed)


def drop_claim(base: Counts, head: Counts) -> Claim:
    """`fisher_drop` with all that it could have been."""
    return Claim(fisher_drop(base, head), _Tables(base, head).drops())


def rise_claim(base: Counts, head: Counts) -> Claim:
    """`fisher_rise` with all that it could have been."""
    return Claim(fisher_rise(base, head), _Tables(base, head).rises())


class Claim(NamedTuple):
    """A p-value, and every value that the exact test could have given with these margins, ascending.

    Few trials have few values: a test "at 5 %" of seven trials may be one at 0.3 %, and the rest of the 5 % is unused.
    """

    p_value: float
    attainable: tuple[float, ...]

    def chance(self, level: float) -> float:
        """How likely the p-value is at most `level` where nothing changed, 0..1: the largest that can be."""
        place = bisect_right(self.attainable, level * (1 + 1e-12))
        return self.attainable[place - 1] if place else 0.0


def fisher_two_sided(base: Counts, head: Counts) -> float:
    """Two-sided p-value: all outcomes that are at most as likely as this one, by chance alone."""
    table = _Tables(base, head)
    weights = dict(table.weights())
    # Whole numbers compare exactly: equally likely outcomes count, without a tolerance that has to be chosen.
    return table.share(weight for weight in weights.values() if weight <= weights[head.passed])


class _Tables:
    """Every 2 x 2 table with these margins, by how many trials of head passed, each with its exact weight.

    The weights are whole numbers, so that sums have no rounding error; one division at the end rounds once.
    """

    def __init__(self, base: Counts, head: Counts) -> None:
        self._passed = base.passed + head.passed
        self._failed = base.failed + head.failed
        self._head = head.total

    def weights(self) -> list[tuple[int, int]]:
        """(passed trials of head, weight), ascending."""
        first = max(0, self._head - self._failed)
        last = min(self._head, self._passed)
        weight = math.comb(self._passed, first) * math.comb(self._failed, self._head - first)
        found = []
        for passed in range(first, last + 1):
            found.append((passed, weight))
            # From one table to the next; always divides without a rest.
            weight = (
                weight
                * ((self._passed - passed) * (self._head - passed))
                // ((passed + 1) * max(self._failed - self._head + passed + 1, 1))
            )
        return found

    def drops(self) -> tuple[float, ...]:
        """Every p-value that `fisher_drop` can have with these margins, ascending."""
        return self._shares(weight for _, weight in self.weights())

    def rises(self) -> tuple[float, ...]:
        """The same of `fisher_rise`."""
        return self._shares(weight for _, weight in reversed(self.weights()))

    def _shares(self, weights: Iterable[int]) -> tuple[float, ...]:
        every = math.comb(self._passed + self._failed, self._head)
        return tuple(weight / every for weight in accumulate(weights))

    def share(self, weights: Iterable[int]) -> float:
        """What part of all tables these are, 0..1."""
        return sum(weights) / math.comb(self._passed + self._failed, self._head)


def benjamini_hochberg(p_values: Sequence[float], *, rate: float = 0.05) -> tuple[bool, ...]:
    """Which of these claims stand, in the order given, so that on average at most `rate` of them are false.

    Benjamini and Hochberg (1995): the largest k with p(k) <= k / m * rate, and everything below it.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    standing = 0
    for rank, index in enumerate(order, start=1):
        if p_values[index] <= rank / len(p_values) * rate:
            standing = rank
    claims = set(order[:standing])
    return tuple(index in claims for index in range(len(p_values)))


def discrete_benjamini_hochberg(claims: Sequence[Claim], *, rate: float = 0.05) -> tuple[bool, ...]:
    """As `benjamini_hochberg`, for exact tests of few trials: each is held to the chance that it really has.

    Döhler, Durand and Roquain (2018), "New FDR bounds for discrete and heterogeneous tests", procedure HSU, with its
    proof for independent tests: https://doi.org/10.1214/18-EJS1441.
    """
    size = len(claims)
    if not size:
        return ()
    levels = sorted({value for claim in claims for value in claim.attainable if value < 1.0})
    last = 0.0  # the largest level that even a claim with all others beside it may have
    for level in levels:
        if sum(chance / (1 - chance) for chance in _chances(claims, level)) > rate * size:
            break
        last = level
    scales = [1 - chance for chance in _chances(claims, last)]
    order = sorted(range(size), key=lambda index: claims[index].p_value)
    standing = 0
    for rank, index in enumerate(order, start=1):
        level = claims[index].p_value
        if level > last * (1 + 1e-12):
            break
        used = sum(chance / scale for chance, scale in zip(_chances(claims, level), scales, strict=True))
        if used <= rate * rank:
            standing = rank
    stands = set(order[:standing])
    return tuple(index in stands for index in range(size))


def _chances(claims: Sequence[Claim], level: float) -> list[float]:
    return [claim.chance(level) for claim in claims]
