"""What is said about a row against its baseline, and which rows are tried anew before anything is said."""

from __future__ import annotations

from typing import Any

import pytest

from evals.comparison import (
    Change,
    Past,
    Present,
    RowKey,
    changed_rows,
    compare,
    removed_rows,
    rerun_calls,
    suspects,
)
from evals.scoring import GatedRow, gate
from evals.statistics import Counts, fisher_drop


def a_row(drawing: str, **changes: Any) -> Present:
    """`F` is a row whose one trial failed, `F.......` with seven new trials that passed (`x`: failed)."""
    state = {"P": "passed", "F": "failed", "E": "error", "S": "skipped"}[drawing[0]]
    fields: dict[str, Any] = {
        "key": RowKey("Greets", "m"),
        "state": state,
        "first": Counts(int(state == "passed"), int(state == "failed")),
        "again": Counts(drawing.count("."), drawing.count("x")),
    }
    return Present(**fields | changes)


def a_past(passed: int, failed: int, digest: str | None = None) -> dict[RowKey, Past]:
    return {RowKey("Greets", "m"): Past(counts=Counts(passed, failed), case_digest=digest)}


def change_of(row: Present, past: dict[RowKey, Past]) -> Change:
    (change,) = compare([row], past)
    return change


@pytest.mark.parametrize(
    ("drawing", "past", "status", "rule"),
    [
        ("Fxxxxxx.", (29, 1), "regressed", "regression"),
        ("Fxxx....", (30, 0), "regressed", "regression"),  # p 0.0046, the only claim
        ("Fxx.....", (28, 2), "flaky", "regression"),  # p 0.17
        ("F.......", (30, 0), "flaky", "regression"),  # one failure, seven passes: flips
        ("P", (30, 0), "stable", "regression"),
        ("P", (29, 1), "stable", "regression"),  # one slip is no habit
        ("P", (28, 2), "flaky", "regression"),
        ("F", (0, 30), "stable", "regression"),  # fails as it always did
        ("F", (5, 25), "flaky", "regression"),  # no new trials could show a drop from here
        ("P.......", (0, 30), "fixed", "regression"),
        ("Pxxxxxxx", (0, 30), "flaky", "regression"),
        ("F", (30, 0), "not_enough_data", "failure"),  # suspected, not tried anew
        ("F", (4, 0), "not_enough_data", "failure"),
        ("P", (4, 0), "not_enough_data", "failure"),
        ("E", (30, 0), "not_enough_data", "failure"),
        ("S", (30, 0), "not_enough_data", "failure"),
    ],
)  # fmt: skip
def test_compare__says_what_the_trials_show(drawing: str, past: tuple[int, int], status: str, rule: str) -> None:
    change = change_of(a_row(drawing), a_past(*past))

    assert (change.status, change.rule) == (status, rule)


def test_compare__names_effect_p_value_and_both_intervals() -> None:
    change = change_of(a_row("Fxxxxxx."), a_past(28, 2))

    assert change.effect == pytest.approx(1 / 7 - 28 / 30, abs=1e-6)
    assert change.p_value == pytest.approx(fisher_drop(Counts(28, 2), Counts(1, 6)), rel=1e-5)
    assert change.baseline is not None
    assert (change.baseline.passed, change.baseline.total) == (28, 30)
    assert (change.reruns.passed, change.reruns.total) == (1, 7)
    assert change.baseline.low > change.reruns.high


def test_compare__failure_that_raised_the_suspicion_is_not_in_its_own_test() -> None:
    """A second failure in the first run changes nothing; one among the new trials does."""
    once, twice = a_row("Fxxx....", first=Counts(0, 1)), a_row("Fxxx....", first=Counts(0, 5))

    assert change_of(once, a_past(30, 0)).p_value == change_of(twice, a_past(30, 0)).p_value
    assert change_of(a_row("Fxxxx..."), a_past(30, 0)).p_value < change_of(once, a_past(30, 0)).p_value


def test_compare__many_claims_share_the_share_of_false_ones() -> None:
    """Benjamini-Hochberg: p 0.03 stands alone, and falls beside nine rows that show nothing."""
    lone = a_row("Fxxx....")
    past = a_past(28, 2)
    others = [a_row("F.......", key=RowKey(f"other {n}", "m")) for n in range(9)]
    whole = past | {row.key: Past(counts=Counts(28, 2)) for row in others}

    assert change_of(lone, past).status == "regressed"
    assert compare([lone, *others], whole)[0].status == "flaky"


def test_compare__row_of_no_baseline_gates_on_its_own_failure() -> None:
    assert change_of(a_row("F"), {}) == Change(status="not_enough_data", rule="failure")


def test_compare__case_that_asks_something_else_is_not_compared() -> None:
    row = a_row("Fxxxxxxx", case_digest="new")

    assert change_of(row, a_past(30, 0, "old")) == Change(status="not_enough_data", rule="failure")
    assert changed_rows([row], a_past(30, 0, "old")) == (row.key,)
    assert change_of(row, a_past(30, 0, None)).status == "regressed", "an old baseline does not say"
    assert removed_rows([], a_past(30, 0)) == (row.key,)


def test_suspects__only_rows_that_stand_against_their_baseline_are_tried_anew() -> None:
    drawings = {
        "P": (30, 0), "F": (30, 0), "F ": (0, 30), "F  ": (2, 28), "F   ": (3, 0), "E": (30, 0), "P ": (0, 30),
    }  # fmt: skip
    rows = [a_row(drawing, key=RowKey(drawing, "m")) for drawing in drawings]
    past = {RowKey(drawing, "m"): Past(counts=Counts(*counts)) for drawing, counts in drawings.items()}

    assert suspects(rows, past, calls=100) == (1, 6)


def test_suspects__few_calls_go_to_what_gates_and_to_the_surest_baseline() -> None:
    rows = [
        a_row("F", key=RowKey("in quarantine", "m"), quarantined=True),
        a_row("P", key=RowKey("rises", "m")),
        a_row("F", key=RowKey("short past", "m")),
        a_row("F", key=RowKey("long past", "m")),
    ]
    counts = [Counts(30, 0), Counts(0, 30), Counts(6, 0), Counts(30, 0)]
    past = {row.key: Past(counts=known) for row, known in zip(rows, counts, strict=True)}

    assert suspects(rows, past, calls=6) == ()
    assert suspects(rows, past, calls=13) == (3,)
    assert suspects(rows, past, calls=14) == (2, 3)
    assert suspects(rows, past, calls=27) == (1, 2, 3)
    assert suspects(rows, past, calls=28) == (0, 1, 2, 3)


def test_rerun_calls__a_comparison_costs_at_most_a_second_run() -> None:
    assert rerun_calls(1_000) == 1_000
    assert rerun_calls(3) == 35, "a small suite may try five rows anew"


FLAKY = Change(status="flaky", rule="regression")
REGRESSED = Change(status="regressed", rule="regression")
UNKNOWN = Change(status="not_enough_data", rule="failure")


@pytest.mark.parametrize(
    ("rows", "conclusion"),
    [
        ([GatedRow("failed", change=FLAKY), GatedRow("passed")], "passed"),
        ([GatedRow("failed", change=REGRESSED)], "failed"),
        ([GatedRow("failed", change=UNKNOWN)], "failed"),
        ([GatedRow("error", change=UNKNOWN)], "inconclusive"),
        ([GatedRow("error", change=REGRESSED)], "inconclusive"),
        ([GatedRow("failed", quarantined=True), GatedRow("passed")], "passed"),
        ([GatedRow("error", quarantined=True)], "passed"),
        ([GatedRow("failed", quarantined=True), GatedRow("skipped")], "inconclusive"),
        ([GatedRow("failed"), GatedRow("error")], "failed"),
        ([], "inconclusive"),
    ],
)
def test_gate__claims_decide_before_failures_and_states_never_mix(rows: list[GatedRow], conclusion: str) -> None:
    assert gate(rows) == conclusion
