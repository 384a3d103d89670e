"""Which model `auto` runs on."""

from __future__ import annotations

import pytest

from evals.choosing import Measured, choose
from evals.statistics import Counts

USABLE = ("dear", "middle", "cheap", "default")


def measured(model: str, passed: int, failed: int, *, usd_a_trial: float) -> Measured:
    return Measured(model=model, counts=Counts(passed, failed), usd=usd_a_trial * (passed + failed))


def test_choose__cheapest_that_is_not_significantly_worse_runs() -> None:
    known = [
        measured("dear", 40, 0, usd_a_trial=0.10),
        measured("middle", 38, 2, usd_a_trial=0.02),
        measured("cheap", 20, 20, usd_a_trial=0.001),
    ]

    choice = choose(known, usable=USABLE, default="default")

    assert choice.model == "middle"
    assert choice.why == (
        "auto: middle ran: of 3 models measured on this suite it is the cheapest that is not significantly worse "
        "(38 of 40) than dear (40 of 40); significantly worse: cheap."
    )


def test_choose__best_runs_when_nothing_cheaper_comes_near_it() -> None:
    known = [measured("dear", 40, 0, usd_a_trial=0.10), measured("cheap", 20, 20, usd_a_trial=0.001)]

    choice = choose(known, usable=USABLE, default="default")

    assert choice.model == "dear"
    assert "passed most often (40 of 40)" in choice.why


def test_choose__of_equals_the_cheaper_runs() -> None:
    known = [measured("dear", 30, 0, usd_a_trial=0.10), measured("cheap", 30, 0, usd_a_trial=0.01)]

    assert choose(known, usable=USABLE, default="default").model == "cheap"


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([], "as no model has 20 stored verdicts"),
        ([measured("cheap", 200, 0, usd_a_trial=0.01)], "as only cheap has 20 stored verdicts"),
        (
            [measured("cheap", 200, 0, usd_a_trial=0.01), measured("dear", 19, 0, usd_a_trial=1.0)],
            "as only cheap has 20 stored verdicts",
        ),
    ],
)
def test_choose__too_little_is_known_and_the_default_runs(known: list[Measured], said: str) -> None:
    choice = choose(known, usable=USABLE, default="default")

    assert choice.model == "default"
    assert said in choice.why


def test_choose__model_that_cannot_be_used_is_not_chosen() -> None:
    known = [
        measured("gone", 30, 0, usd_a_trial=0.0001),
        measured("dear", 30, 0, usd_a_trial=0.10),
        measured("cheap", 30, 0, usd_a_trial=0.01),
    ]

    assert choose(known, usable=USABLE, default="default").model == "cheap"
