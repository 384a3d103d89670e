"""Verdicts -> scores: how assertions make a case, trials make a row, and rows make a conclusion."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from evals.types import Case, Conclusion, State, Trial


class RowVerdict(Struct, frozen=True):
    """What the trials of one row say together."""

    state: State
    score: float


def decide_row(case: Case, trials: Sequence[Trial]) -> RowVerdict:
    """The row's verdict: passed when the share of passed trials reaches the case's `pass_rate`.

    Trials without a verdict never count as failures: while they could still turn the row, it is an error.
    """
    with_verdict = [trial for trial in trials if trial.state in ("passed", "failed")]
    if not with_verdict:
        return RowVerdict("error" if any(trial.state == "error" for trial in trials) else "skipped", 0.0)
    score = sum(trial.score for trial in with_verdict) / len(with_verdict)
    passed = sum(trial.state == "passed" for trial in with_verdict)
    undecided = case.repeat - len(with_verdict)
    # A hair below, as 0.8 * 5 is 4.000000000000001 in floating point for some rates.
    needed = case.pass_rate * case.repeat - 1e-9
    if passed >= needed:
        return RowVerdict("passed", score)
    if passed + undecided < needed:
        return RowVerdict("failed", score)
    return RowVerdict("error" if any(trial.state == "error" for trial in trials) else "skipped", score)


def conclude(states: Sequence[State]) -> Conclusion:
    """failed if any row failed, else inconclusive if any row has no verdict, else passed."""
    if "failed" in states:
        return "failed"
    if not states or any(state != "passed" for state in states):
        return "inconclusive"
    return "passed"
