"""The public JSON: rates with intervals, what was left out, quarantine, and which rule decided."""

from __future__ import annotations

import msgspec
import pytest

from evals.comparison import Past, Rate, RowKey
from evals.outcome import ChangeCounts, Outcome
from evals.statistics import Counts
from tests.outcomes import a_case, an_outcome


def test_row__has_the_rate_of_its_verdicts_with_an_interval() -> None:
    whole, errors = an_outcome("PPPPF", "E").test_cases

    assert whole.pass_rate == Rate(passed=4, total=5, low=0.375535, high=0.963776)
    assert "pass_rate" not in msgspec.to_builtins(errors)


def test_row__errors_and_skipped_trials_are_in_no_rate() -> None:
    (row,) = an_outcome("PEPS", cases=(a_case(repeat=4, pass_rate=0.5),)).test_cases

    assert (row.state, row.pass_rate.total) == ("passed", 2)


@pytest.mark.parametrize(
    ("drawing", "pass_rate", "state"),
    [
        ("PPPFF", 0.6, "passed"), ("PPFFF", 0.6, "failed"), ("PPFFE", 0.6, "error"), ("PPFFS", 0.6, "skipped"),
        ("PPPEE", 0.6, "passed"), ("FFFEE", 0.6, "failed"), ("EEEEE", 0.0, "error"), ("FFFFF", 0.0, "passed"),
        ("PPPPF", 0.8, "passed"), ("PPPFF", 0.8, "failed"),
    ],
)  # fmt: skip
def test_row__k_of_n_decides_and_errors_never_count_as_failures(drawing: str, pass_rate: float, state: str) -> None:
    (row,) = an_outcome(drawing, cases=(a_case(repeat=5, pass_rate=pass_rate),)).test_cases

    assert row.state == state


def test_summary__quarantined_row_is_counted_and_decides_nothing() -> None:
    outcome = an_outcome("P", "F", cases=(a_case("Good"), a_case("Shaky", quarantine=True)))

    assert outcome.summary.conclusion == "passed"
    assert (outcome.summary.tests_failed, outcome.summary.overall_score) == (1, 0.5)
    assert [row.quarantined for row in outcome.test_cases] == [msgspec.UNSET, True]


BASELINE = {
    RowKey("Case 0", "m"): Past(counts=Counts(30, 0)),
    RowKey("Case 1", "m"): Past(counts=Counts(20, 10)),
    RowKey("Case 2", "m"): Past(counts=Counts(2, 0)),
    RowKey("Gone", "m"): Past(counts=Counts(1, 0)),
}


def test_comparison__says_which_rule_decided_and_what_was_found() -> None:
    outcome = an_outcome("P", "F|PPPPPFF", "P", baseline=BASELINE)

    assert outcome.comparison
    assert outcome.comparison.rule == "both"
    assert outcome.comparison.rows == ChangeCounts(regressed=0, fixed=0, flaky=1, stable=1, not_enough_data=1)
    assert (outcome.comparison.baseline_trials, outcome.comparison.rerun_trials) == (63, 7)
    assert outcome.comparison.removed == (RowKey("Gone", "m"),)
    assert outcome.summary.conclusion == "passed", "the baseline fails as often"
    assert [trial.state for trial in outcome.test_cases[1].reruns] == ["passed"] * 5 + ["failed"] * 2


def test_comparison__without_any_past_failures_decide() -> None:
    outcome = an_outcome("F", baseline={})

    assert outcome.comparison
    assert (outcome.comparison.rule, outcome.summary.conclusion) == ("failures", "failed")


def test_comparison__regression_fails_and_its_reruns_leave_the_rows_own_figures_alone() -> None:
    (row,) = an_outcome("F|FFFFFFF", baseline=BASELINE).test_cases

    assert row.change
    assert (row.change.status, row.change.p_value) == ("regressed", pytest.approx(1 / 10_295_472))
    assert (row.pass_rate.total, row.score, row.cost_usd) == (1, 0.0, 4.0)


def test_outcome__older_documents_are_still_read() -> None:
    document = msgspec.json.decode(msgspec.json.encode(an_outcome("P")))
    later = ("case_digest", "pass_rate", "stopped_early", "quarantined", "change", "reruns")
    rows = [{key: value for key, value in row.items() if key not in later} for row in document["test_cases"]]
    older = {"test_cases": rows, "summary": document["summary"], "engine_version": "0.1.0"}

    assert msgspec.convert(older, type=Outcome).test_cases[0].title == "Case 0"
