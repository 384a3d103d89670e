"""What a run fails by: cases of the baseline that are gone or looser, and the order in which reasons decide."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evals.gating import GateWish, with_gate
from evals.outcome import Outcome
from evals.suite_changes import changed_cases
from evals.types import Assertion, AssertionSet, Message, Suite
from tests.outcomes import a_case, an_outcome


def a_suite(*cases: Any, **changes: Any) -> Suite:
    return Suite(cases=cases, **changes)


BEFORE = a_case(assertions=(Assertion(type="contains", value="a"), Assertion(type="regex", value="b")), repeat=3)
SET = AssertionSet(assertions=BEFORE.assertions)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quarantine": True}, "it is in quarantine now, and decides nothing"),
        ({"pass_rate": 0.5}, "it has to pass 50% of 3 times, before 100% of 3"),
        ({"repeat": 1}, "it has to pass 100% of 1 times, before 100% of 3"),
        ({"messages": (Message("user", "Easier"),)}, "it asks something else"),
        ({"vars": {"x": 1}}, "it asks something else"),
        ({"threshold": 0.1}, "its threshold is another"),
        ({"assertions": BEFORE.assertions[:1]}, "it no longer asserts regex as before"),
        (
            {"assertions": (AssertionSet(assertions=BEFORE.assertions),)},
            "it no longer asserts contains, regex as before",
        ),
    ],
)
def test_changed_cases__what_is_easier_to_pass_is_named(changes: dict[str, Any], reason: str) -> None:
    now = msgspec.structs.replace(BEFORE, **changes)

    (found,) = changed_cases(a_suite(BEFORE), a_suite(now), gates=True)

    assert (found.change, found.reason, found.gates) == ("changed", reason, True)


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Another name"},
        {"repeat": 5},
        {"assertions": (*BEFORE.assertions, Assertion(type="equals", value="c"))},
        {"assertions": BEFORE.assertions[::-1]},
        {"line": 99},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_changed_cases__what_asks_as_much_or_more_is_nobodys_business(changes: dict[str, Any]) -> None:
    now = msgspec.structs.replace(BEFORE, **changes)

    assert changed_cases(a_suite(BEFORE), a_suite(now), gates=True) == ()


def test_changed_cases__parameters_of_the_model_count_and_quarantined_ones_do_not_gate() -> None:
    held = msgspec.structs.replace(BEFORE, title="Held", quarantine=True)

    found = changed_cases(a_suite(BEFORE, held), a_suite(BEFORE, temperature=0.0), gates=True)

    assert [(case.title, case.change, case.gates) for case in found] == [
        ("Greets", "changed", True),
        ("Held", "removed", False),
    ]


def gated(outcome: Outcome, **wish: Any) -> tuple[str, str]:
    found = with_gate(outcome, GateWish(**wish))
    assert found.gate
    return found.summary.conclusion, found.gate.decided_by


def test_gate__never_fails_and_says_nothing_where_nothing_has_a_verdict() -> None:
    assert gated(an_outcome("F"), rule="never") == ("passed", "never")
    assert gated(an_outcome("E"), rule="never") == ("inconclusive", "never")


def test_gate__a_low_score_fails_what_passes_and_leaves_what_has_no_verdict() -> None:
    quarantined = (a_case("Good"), a_case("Bad", quarantine=True))
    assert gated(an_outcome("P", "F", cases=quarantined), min_score=0.6) == ("failed", "min_score")
    assert gated(an_outcome("P", "F", cases=quarantined), min_score=0.5) == ("passed", "failures")
    assert gated(an_outcome("P", "E"), min_score=0.5) == ("inconclusive", "failures")
