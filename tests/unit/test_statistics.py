"""Intervals, exact tests and claims: held to published values, to brute force over every table, and to their laws."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations, product
from math import comb, prod, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.statistics import (
    Claim,
    Counts,
    Interval,
    benjamini_hochberg,
    discrete_benjamini_hochberg,
    drop_claim,
    fisher_drop,
    fisher_rise,
    fisher_two_sided,
    wilson_interval,
)

SMALL = st.builds(Counts, st.integers(0, 40), st.integers(0, 40))
P_VALUES = st.lists(st.floats(0, 1), max_size=12)


# Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I, method 3.
@pytest.mark.parametrize(
    ("passed", "total", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson__gives_the_published_intervals(passed: int, total: int, low: float, high: float) -> None:
    interval = wilson_interval(Counts(passed, total - passed))

    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(SMALL.filter(lambda counts: counts.total))
def test_wilson__ends_are_where_the_score_test_is_just_not_rejected(counts: Counts) -> None:
    """The defining equation, solved by nobody here: |rate - end| = z * sqrt(end * (1 - end) / n)."""
    interval = wilson_interval(counts)

    assert 0 <= interval.low <= counts.pass_rate <= interval.high <= 1
    for end in (interval.low, interval.high):
        distance = 1.959963984540054 * sqrt(end * (1 - end) / counts.total)
        assert abs(counts.pass_rate - end) == pytest.approx(distance, abs=1e-9)


def test_wilson__nothing_known_is_everything_possible_and_all_passed_is_not_certain() -> None:
    assert wilson_interval(Counts()) == Interval(0.0, 1.0)
    assert wilson_interval(Counts(5, 0)).high == 1.0
    assert round(wilson_interval(Counts(5, 0)).low, 3) == 0.566


def test_fisher__gives_the_tea_tasters_p_values() -> None:
    """Fisher (1935): 3 of 4 cups right. One-sided 17/70, two-sided 34/70."""
    milk_first, tea_first = Counts(1, 3), Counts(3, 1)

    assert fisher_rise(milk_first, tea_first) == 17 / 70
    assert fisher_drop(tea_first, milk_first) == 17 / 70
    assert fisher_two_sided(milk_first, tea_first) == 34 / 70


def brute_force(base: Counts, head: Counts) -> dict[int, Fraction]:
    """How likely each number of passes in head is, by dealing every possible hand."""
    verdicts = [True] * (base.passed + head.passed) + [False] * (base.failed + head.failed)
    hands = [sum(hand) for hand in combinations(verdicts, head.total)]
    return {passed: Fraction(hands.count(passed), len(hands)) for passed in set(hands)}


@given(*[st.builds(Counts, st.integers(0, 4), st.integers(0, 4))] * 2)
@settings(max_examples=150, deadline=None)
def test_fisher__equals_dealing_every_hand(base: Counts, head: Counts) -> None:
    chances = brute_force(base, head)
    here = chances[head.passed]

    assert fisher_drop(base, head) == float(sum(c for passed, c in chances.items() if passed <= head.passed))
    assert fisher_rise(base, head) == float(sum(c for passed, c in chances.items() if passed >= head.passed))
    assert fisher_two_sided(base, head) == float(sum(c for c in chances.values() if c <= here))


@given(SMALL, SMALL)
def test_fisher__keeps_its_laws(base: Counts, head: Counts) -> None:
    turned_base, turned_head = Counts(base.failed, base.passed), Counts(head.failed, head.passed)

    assert 0 < fisher_two_sided(base, head) <= 1
    assert fisher_drop(base, head) == fisher_rise(turned_base, turned_head) == fisher_rise(head, base)
    assert fisher_drop(base, head) + fisher_rise(base, head) >= 1


def test_fisher__says_nothing_without_trials() -> None:
    assert fisher_drop(Counts(), Counts(0, 7)) == fisher_drop(Counts(30, 0), Counts()) == 1
    assert fisher_two_sided(Counts(), Counts()) == 1


def test_fisher__stays_exact_for_thousands_of_trials() -> None:
    assert fisher_drop(Counts(5_000, 0), Counts(0, 7)) == 1 / comb(5_007, 7)
    assert fisher_two_sided(Counts(2_000, 2_000), Counts(2_000, 2_000)) == 1


# Benjamini & Hochberg (1995), section 3.2: the four smallest of these fifteen are rejected at 5 %.
PUBLISHED = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0,
]  # fmt: skip


def test_benjamini_hochberg__rejects_what_the_authors_rejected() -> None:
    assert benjamini_hochberg(PUBLISHED, rate=0.05) == (True,) * 4 + (False,) * 11


@given(P_VALUES, st.floats(0, 1))
def test_benjamini_hochberg__is_the_largest_set_that_its_rule_allows(p_values: list[float], rate: float) -> None:
    found = benjamini_hochberg(p_values, rate=rate)

    allowed = [k for k in range(1, len(p_values) + 1) if sorted(p_values)[k - 1] <= k / len(p_values) * rate]
    assert sum(found) == max(allowed, default=0)
    claimed = [p for p, stands in zip(p_values, found, strict=True) if stands]
    others = [p for p, stands in zip(p_values, found, strict=True) if not stands]
    assert not claimed or not others or max(claimed) <= min(others)


def test_benjamini_hochberg__keeps_the_order_that_was_given() -> None:
    for p_values in permutations([0.001, 0.02, 0.9]):
        assert benjamini_hochberg(p_values, rate=0.05) == tuple(p < 0.5 for p in p_values)
    assert benjamini_hochberg([]) == ()


MARGINS = st.tuples(st.integers(5, 30), st.integers(0, 6), st.integers(2, 7))


@given(st.lists(MARGINS, min_size=1, max_size=3), st.sampled_from([0.03, 0.05, 0.2]))
def test_discrete_benjamini_hochberg__claims_by_chance_at_most_as_often_as_it_says(
    families: list[tuple[int, int, int]], rate: float
) -> None:
    """Every way in which trials that nothing changed can fall, with its exact chance."""
    drawn = [list(_every_claim(*family)) for family in families]

    wrong = sum(
        prod(chance for chance, _ in each)
        for each in product(*drawn)
        if any(discrete_benjamini_hochberg([claim for _, claim in each], rate=rate))
    )

    assert wrong <= rate + 1e-9


def _every_claim(base_total: int, failed: int, head_total: int) -> Iterator[tuple[float, Claim]]:
    """Of so many trials so many failed, by chance these or those: the chance of each claim."""
    for lost in range(max(0, failed - base_total), min(failed, head_total) + 1):
        ways = comb(head_total, lost) * comb(base_total, failed - lost)
        base = Counts(base_total - failed + lost, failed - lost)
        yield ways / comb(base_total + head_total, failed), drop_claim(base, Counts(head_total - lost, lost))


def test_discrete_benjamini_hochberg__finds_what_the_plain_method_leaves() -> None:
    """Six suspected rows of a good baseline, one of which failed in four of seven."""
    broken = drop_claim(Counts(29, 1), Counts(4, 3))
    claims = [broken, *[drop_claim(Counts(29, 1), Counts(7, 0))] * 5]

    assert not any(benjamini_hochberg([claim.p_value for claim in claims], rate=0.05))
    assert discrete_benjamini_hochberg(claims, rate=0.03) == (True,) + (False,) * 5
    assert discrete_benjamini_hochberg([]) == ()


def test_counts__negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        Counts(-1, 2)
