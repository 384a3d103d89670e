"""What makes a run fail: tested regressions, failures, or nothing; a score that is too low; tests that were taken away.

Works on a finished outcome, so that the same outcome is judged in the same way wherever it comes from.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec
from msgspec import UNSET, Struct, UnsetType

from evals.outcome import Comparison, DecidedBy, Gate, Outcome, Row, gated_row
from evals.scoring import gate as conclude_rows
from evals.suite_changes import count_gating
from evals.types import Conclusion

Rule = Literal["regressions", "failures", "never"]


class GateWish(Struct, frozen=True, kw_only=True):
    """What was asked for. `min_score`: an overall score below it fails the run, 0..1."""

    rule: Rule = "regressions"
    min_score: float | None = None


def with_gate(outcome: Outcome, wish: GateWish) -> Outcome:
    """The outcome with the conclusion that this gate gives it, and what decided in `gate`."""
    outcome = _by_failures(outcome) if wish.rule == "failures" else outcome
    gate = _decide(outcome, wish)
    summary = msgspec.structs.replace(outcome.summary, conclusion=_conclusion(outcome, gate))
    return msgspec.structs.replace(outcome, summary=summary, gate=gate)


def _by_failures(outcome: Outcome) -> Outcome:
    """Each row by its own state, whatever is known of the past."""
    comparison: Comparison | UnsetType = UNSET
    if outcome.comparison:
        comparison = msgspec.structs.replace(outcome.comparison, rule="failures")
    return msgspec.structs.replace(
        outcome, test_cases=tuple(map(_own_state, outcome.test_cases)), comparison=comparison
    )


def _own_state(row: Row) -> Row:
    if not row.change:
        return row
    return msgspec.structs.replace(row, change=msgspec.structs.replace(row.change, rule="failure"))


def _decide(outcome: Outcome, wish: GateWish) -> Gate:
    by, reasons = _decisive(outcome, wish)
    min_score = UNSET if wish.min_score is None else wish.min_score
    return Gate(asked=wish.rule, decided_by=by, reasons=reasons, min_score=min_score)


class _Decisive(NamedTuple):
    by: DecidedBy
    reasons: tuple[str, ...]


def _decisive(outcome: Outcome, wish: GateWish) -> _Decisive:
    if wish.rule == "never":
        return _Decisive("never", ("The gate is off: no verdict fails this run.",))
    rows = conclude_rows([gated_row(row) for row in outcome.test_cases])
    rule = outcome.comparison.rule if outcome.comparison else "failures"
    by_rows = _rule_reason(rule, has_baseline=bool(outcome.comparison))
    cases = count_gating(outcome.comparison.cases) if outcome.comparison else {}
    if cases:
        reasons = tuple(_case_reason(kind, count) for kind, count in sorted(cases.items()))
        return _Decisive("cases", (*reasons, f"The rest would fail too. {by_rows}") if rows == "failed" else reasons)
    score = outcome.summary.overall_score
    if rows == "passed" and wish.min_score is not None and score < wish.min_score:
        return _Decisive("min_score", (f"The score {score:.3f} is below {wish.min_score:g}.",))
    return _Decisive(rule, (by_rows,))


def _case_reason(kind: str, count: int) -> str:
    what = "1 case" if count == 1 else f"{count} cases"
    ends = {"removed": "missing in this run", "changed": "easier to pass here, or not comparable"}[kind]
    return f"{what} of the baseline's suite {'is' if count == 1 else 'are'} {ends}."


def _rule_reason(rule: str, *, has_baseline: bool) -> str:
    if not has_baseline:
        return "Decided by failures: there is no baseline."
    return {
        "regressions": "Decided by regressions: only a tested drop against the baseline fails the run.",
        "failures": "Decided by failures: each failed row fails the run.",
        "both": "Decided by regressions, and by failures where the baseline knows too little.",
    }[rule]


def _conclusion(outcome: Outcome, gate: Gate) -> Conclusion:
    match gate.decided_by:
        case "never":
            has_verdict = any(row.state in ("passed", "failed") for row in outcome.test_cases)
            return "passed" if has_verdict else "inconclusive"
        case "cases" | "min_score":
            return "failed"
    return conclude_rows([gated_row(row) for row in outcome.test_cases])
