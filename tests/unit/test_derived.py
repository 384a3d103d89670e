"""Derived metrics: arithmetic over named scores, and nothing else."""

from __future__ import annotations

import time

import pytest

from evals.derived import InvalidFormula, check_formula, derive
from evals.outcome import build_outcome
from evals.types import Case, DerivedMetric, Suite, Trial


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a / __count", 0.75),
        ("2 * a * b / (a + b)", 24 / 7),
        ("-a + b ^ 2 % 10", 3.0),
        ("max(a, b, 9) - min(a, 1)", 8.0),
        ("sqrt(b) + abs(-1) + pow(2, 3)", 11.0),
        ("1e3 / 2", 500.0),
    ],
)
def test_formula__is_arithmetic(formula: str, value: float) -> None:
    check_formula(formula)

    assert derive([DerivedMetric("x", formula)], sums={"a": 3.0, "b": 4.0}, count=4)["x"] == pytest.approx(value)


def test_formula__may_use_an_earlier_one() -> None:
    metrics = [DerivedMetric("p", "a / __count"), DerivedMetric("q", "1 - p")]

    assert derive(metrics, sums={"a": 1.0}, count=4) == {"p": 0.25, "q": 0.75}


@pytest.mark.parametrize("formula", ["a / 0", "missing + 1", "sqrt(0 - 1)", "10 ^ 400", "log(0)", "min()"])
def test_formula__that_has_no_value_is_left_out(formula: str) -> None:
    assert derive([DerivedMetric("x", formula)], sums={"a": 1.0}, count=1) == {}


@pytest.mark.parametrize(
    "formula",
    [
        "", "a +", "a b", "__import__('os')", "a.b", "a[0]", "[1]", "'a'", "True", "lambda: 1", "a if b else c",
        "f(a)", "max(*a)", "max(a, key=b)", "a ** b", "a // b", "a == b", "a; b", "x := 1", "{1}", "(" * 300, "1" * 501,
        "a\nb", "f'{a}'", "1j",
    ],
)  # fmt: skip
def test_formula__anything_else_is_refused(formula: str) -> None:
    with pytest.raises(InvalidFormula):
        check_formula(formula)


@pytest.mark.parametrize("formula", ["9^9^9^9^9", "1" * 400 + "^99", "-" * 400 + "1"])
def test_formula__no_number_grows_beyond_a_double(formula: str) -> None:
    began = time.process_time()

    try:
        check_formula(formula)
        derive([DerivedMetric("x", formula)], sums={}, count=1)
    except InvalidFormula:
        pass

    assert time.process_time() - began < 0.2


def test_outcome__has_the_formulas_of_each_model_over_its_rows_with_a_verdict() -> None:
    cases = tuple(Case(title=str(index), messages=()) for index in range(3))
    suite = Suite(cases=cases, derived_metrics=(DerivedMetric("mean", "good / __count"),))
    trials = [
        Trial(case_index=0, model="a", repeat_index=0, state="passed", score=1.0, named_scores={"good": 1.0}),
        Trial(case_index=1, model="a", repeat_index=0, state="failed", named_scores={"good": 0.5}),
        Trial(case_index=2, model="a", repeat_index=0, state="error"),
        Trial(case_index=0, model="b", repeat_index=0, state="passed", score=1.0, named_scores={"good": 0.25}),
    ]

    outcome = build_outcome(suite, ["a", "b"], trials, total_duration_ms=1, engine_version="1")

    assert outcome.summary.derived_metrics == {"a": {"mean": 0.75}, "b": {"mean": 0.25}}


def test_outcome__a_rows_named_scores_are_means_over_its_trials_with_a_verdict() -> None:
    """A row that passes shows a trial that passed; its metrics are no better than the row all the same."""
    suite = Suite(
        cases=(Case(title="often", messages=(), repeat=4, pass_rate=0.5),),
        derived_metrics=(DerivedMetric("mean", "good / __count"),),
    )
    scores = [1.0, 0.0, 0.5]
    trials = [
        Trial(
            case_index=0,
            model="a",
            repeat_index=number,
            state="passed" if score else "failed",
            score=score,
            named_scores={"good": score, **({"rare": 1.0} if number == 1 else {})},
        )
        for number, score in enumerate(scores)
    ]
    trials.append(Trial(case_index=0, model="a", repeat_index=3, state="error"))

    outcome = build_outcome(suite, ["a"], trials, total_duration_ms=1, engine_version="1")

    (row,) = outcome.test_cases
    assert (row.state, row.score, row.named_scores) == ("passed", 0.5, {"good": 0.5, "rare": 1.0})
    assert outcome.summary.derived_metrics == {"a": {"mean": 0.5}}
