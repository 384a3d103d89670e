"""The verdict that the step takes over from the service, and its own where the service judged by another gate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from action_entry.gate import FAILED, PASSED, WITHOUT_VERDICT, judge
from action_entry.inputs import Inputs, read_inputs
from notifiers import Notice, read_outcome
from tests.standins.service import a_failed_row, a_row, a_summary


def a_notice(conclusion: str, rows: list[dict[str, Any]], *, score: float = 0.5, **gate: object) -> Notice:
    """A finished job; `gate` are the fields of the outcome's gate, none where it has none."""
    outcome: dict[str, Any] = {
        "test_cases": rows,
        "summary": a_summary(rows) | {"conclusion": conclusion, "overall_score": score},
        "engine_version": "1",
    }
    if gate:
        outcome["gate"] = {"reasons": [], "decided_by": gate["asked"], **gate}
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    return Notice(
        outcome=read_outcome(outcome), package="@acme/greeter", suite="s", job_id="j", accepted_at=moment,
        finished_at=moment,
    )  # fmt: skip


def inputs(**given: str) -> Inputs:
    return read_inputs({name.replace("_", "-"): value for name, value in given.items()})


GOOD, BAD = [a_row("Greets")], [a_row("Greets"), a_failed_row("Says goodbye")]


def test_judge__the_services_conclusion_where_it_judged_as_asked() -> None:
    """A failed row that the service's own statistics let pass is let pass here, and the other way round."""
    asked = inputs(fail_on="failures")

    assert judge(a_notice("passed", BAD, asked="failures"), asked).state == PASSED
    assert judge(a_notice("failed", GOOD, asked="failures"), asked).state == FAILED


def test_judge__no_verdict_is_none() -> None:
    found = judge(a_notice("inconclusive", GOOD, asked="regressions"), inputs(on_error="fail"))

    assert (found.state, found.fails) == (WITHOUT_VERDICT, True)


def test_judge__a_score_below_what_was_asked_for() -> None:
    found = judge(
        a_notice("failed", GOOD, score=0.7, asked="regressions", decided_by="min_score", min_score=0.8),
        inputs(min_score="0.8"),
    )

    assert (found.state, found.why) == (FAILED, "the score is 70 %, below min-score 0.8")


def test_judge__cases_that_were_taken_away() -> None:
    notice = a_notice("failed", GOOD, asked="regressions", decided_by="cases", reasons=["1 case is missing."])

    assert judge(notice, inputs()).why == "1 case is missing."


def test_judge__a_gate_that_is_off() -> None:
    found = judge(a_notice("passed", BAD, asked="never"), inputs(fail_on="never"))

    assert (found.state, found.why) == (PASSED, "1 failure; fail-on is `never`")


@pytest.mark.parametrize(
    ("asked", "state"),
    [({"fail_on": "failures"}, FAILED), ({"fail_on": "never"}, PASSED), ({"min_score": "0.9"}, FAILED)],
)
def test_judge__a_job_that_was_submitted_with_another_gate_is_judged_here(asked: dict[str, str], state: str) -> None:
    """The App was first: its gate is the repository's, and the workflow's wish still holds for the step."""
    notice = a_notice("passed", BAD, asked="regressions")

    assert judge(notice, inputs(**asked)).state == state
