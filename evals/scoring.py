"""Verdicts -> scores: how trials make a row, and rows make a conclusion. Errors and skipped trials are no failures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from evals.comparison import Change
from evals.statistics import Counts
from evals.types import Case, Conclusion, State, Trial


class RowVerdict(Struct, frozen=True):
    """What the trials of one row say together."""

    state: State
    score: float


class GatedRow(Struct, frozen=True):
    """What a row brings to the conclusion."""

    state: State
    quarantined: bool = False
    change: Change | None = None


def count_verdicts(trials: Iterable[Trial]) -> Counts:
    """Passed and failed trials; those without a verdict are in neither number."""
    states = [trial.state for trial in trials]
    return Counts(states.count("passed"), states.count("failed"))


def settled(case: Case, counts: Counts) -> Literal["passed", "failed"] | None:
    """The row's verdict as soon as no further trial can change it, else None."""
    # A hair below, as 0.8 * 5 is 4.000000000000001 in floating point for some rates.
    needed = case.pass_rate * case.repeat - 1e-9
    if counts.passed >= needed:
        return "passed"
    if case.repeat - counts.failed < needed:
        return "failed"
    return None


def decide_row(case: Case, trials: Sequence[Trial]) -> RowVerdict:
    """The row's verdict: passed when the share of passed trials reaches the case's `pass_rate`.

    Trials without a verdict never count as failures: while they could still turn the row, it is an error, or skipped.
    """
    counts = count_verdicts(trials)
    without_verdict: State = "error" if any(trial.state == "error" for trial in trials) else "skipped"
    if counts.total == 0:
        return RowVerdict(without_verdict, 0.0)
    score = sum(trial.score for trial in trials if trial.state in ("passed", "failed")) / counts.total
    return RowVerdict(settled(case, counts) or without_verdict, score)


def gate(rows: Sequence[GatedRow]) -> Conclusion:
    """The conclusion. Quarantined rows decide nothing; a tested claim decides before the row's own state."""
    gating = [gated_state(row) for row in rows if not row.quarantined]
    return "passed" if rows and not gating else conclude(gating)


def gated_state(row: GatedRow) -> State:
    """The state that counts: with a tested claim, only "regressed" fails; a row without a verdict stays without."""
    if row.change is None or row.change.rule == "failure" or row.state not in ("passed", "failed"):
        return row.state
    return "failed" if row.change.status == "regressed" else "passed"


def conclude(states: Sequence[State]) -> Conclusion:
    """failed if any row failed, else inconclusive if any row has no verdict, else passed."""
    if "failed" in states:
        return "failed"
    if not states or any(state != "passed" for state in states):
        return "inconclusive"
    return "passed"
