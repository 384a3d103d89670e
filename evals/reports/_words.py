"""What several formats say alike about a row: plain text, printable, not yet escaped for any format."""

from __future__ import annotations

from evals.outcome import Row, Summary
from evals.printable import printable_lines, shortened
from evals.types import AssertionResult

SIGNS = {"passed": "✅", "failed": "❌", "error": "⚠️", "skipped": "⏭️"}
LONGEST_ANSWER = 2_000


def headline(row: Row) -> str:
    """The row's title, one line."""
    return shortened(row.title, limit=200) or "(untitled)"


def model_name(row: Row) -> str:
    """The model that was asked for, and who answered if that is another."""
    answered = f" ({row.answered_by})" if row.answered_by and row.answered_by != row.model else ""
    return shortened(f"{row.model}{answered}", limit=200)


def reasons(row: Row) -> list[str]:
    """Why the row stands as it does, a line each; none for a plain pass."""
    lines = []
    if row.error:
        lines.append(f"{row.error.kind}: {shortened(row.error.message, limit=500)}")
    lines += [f"{_placed(a)}: {shortened(a.reason, limit=500)}" for a in row.assertions if not a.passed]
    if row.trials and row.pass_rate:
        rate = row.pass_rate
        lines.append(
            f"{rate.passed} of {rate.total} repeats passed; the true rate is {rate.low:.2f} to {rate.high:.2f}"
        )
    if row.change:
        lines.append(change_line(row))
    if row.quarantined is True:
        lines.append("in quarantine: decides nothing")
    return lines


def _placed(result: AssertionResult) -> str:
    """`contains`, or `contains (turn 1)` where an earlier answer was judged."""
    return result.type if result.turn is None else f"{result.type} (turn {result.turn})"


def change_line(row: Row) -> str:
    """`regressed: 29 of 30 passed before, 1 of 7 now, p 0.0002`."""
    change = row.change
    if not change:
        return ""
    before = f": {change.baseline.passed} of {change.baseline.total} passed before" if change.baseline else ""
    now = f", {change.reruns.passed} of {change.reruns.total} when run again" if change.reruns else ""
    p_value = f", p {change.p_value:.2g}" if isinstance(change.p_value, float) else ""
    return f"{change.status.replace('_', ' ')}{before}{now}{p_value}"


def answer(row: Row) -> list[str]:
    """The answer's lines, cut."""
    lines = printable_lines(row.response[:LONGEST_ANSWER])
    return [*lines, "…"] if len(row.response) > LONGEST_ANSWER else lines


def measures(summary: Summary) -> list[str]:
    """How far the judges agree with themselves, and the suite's own figures by model, a line each."""
    lines = []
    if summary.judge_agreement:
        agreement = summary.judge_agreement
        lines.append(f"Judge agrees with itself: {agreement.share:.1%} of {agreement.n} asked for again")
    for model, metrics in (summary.derived_metrics or {}).items():
        named = ", ".join(f"{shortened(name, limit=100)} {value:g}" for name, value in metrics.items())
        if named:
            lines.append(f"Metrics of {shortened(model, limit=100)}: {named}")
    return lines


def figures(summary: Summary) -> str:
    """`3 of 5 passed, 1 failed, 1 without a verdict`."""
    without = summary.tests_errored + summary.tests_skipped
    failed = max(summary.tests_failed - without, 0)
    parts = [f"{summary.tests_passed} of {summary.total_tests} passed", f"{failed} failed" if failed else ""]
    parts.append(f"{without} without a verdict" if without else "")
    return ", ".join(part for part in parts if part)


def cost(summary: Summary) -> str:
    """`$0.0012`, `at least $0.0012`, or `unknown`."""
    if summary.cost_is_partial is True:
        return f"at least ${summary.total_cost_usd:.4f}" if summary.total_cost_usd else "unknown"
    return f"${summary.total_cost_usd:.4f}"
