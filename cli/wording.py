"""Numbers and results as people read them. Pure: Structs in, lines out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cli.answers import (
    AssertionShown,
    AttemptShown,
    CacheShown,
    ChangeShown,
    ComparisonShown,
    ErrorShown,
    Estimate,
    JobUsage,
    ModelShare,
    MoneyRange,
    RateShown,
    Results,
    RowShown,
    SourceShown,
    Summary,
    TrialShown,
)
from evals.printable import exact_dollars, excerpt, printable_lines, shortened

SIGNS = {"passed": "✅", "failed": "❌", "error": "⚠️", "skipped": "⏭️"}
COLOURS = {"passed": "green", "failed": "red", "error": "yellow", "skipped": "yellow"}
INDENT = "   "
_WORDS = {"not_enough_data": "not enough data"}
_RULES = {
    "regressions": "Decided by regressions: a failure that the baseline explains does not count.",
    "failures": "Decided by failures: the baseline has too few trials of every row.",
    "both": "Decided by regressions, and by failures where the baseline has too few trials.",
}
_QUOTED = re.compile(r"[\"“`']([^\"”`']{2,200})[\"”`']")


class Line(NamedTuple):
    """One line and its colour on a terminal."""

    text: str = ""
    colour: str | None = None


def percent(score: float) -> str:
    """`100%`, `66.7%`: a score of 0..1 without a needless decimal. Never 100% for less, nor 0% for more."""
    shown = round(score * 100, 1)
    if shown == 100 and score < 1:
        shown = 99.9
    if shown == 0 and score > 0:
        shown = 0.1
    return f"{shown:g}%"


def dollars(amount: float) -> str:
    """`$0.0012`: at least four decimals' worth of a small amount, cents of a large one."""
    if amount >= 1:
        return f"${amount:,.2f}"
    return f"${amount:.4f}" if amount == 0 or amount >= 0.0001 else "<$0.0001"


def usage_line(usage: JobUsage) -> str:
    """`Usage: 23/100 tests this month`."""
    used = usage.tests_used_this_month
    if usage.limit is None:
        return f"Usage: {used:,} tests this month (unlimited)"
    return f"Usage: {used}/{usage.limit} tests this month"


def result_lines(rows: Sequence[RowShown], *, verbose: bool) -> Iterator[Line]:
    """A line for each row, below it why it did not pass; with `verbose` all that is known."""
    several_models = len({row.model for row in rows}) > 1
    for number, row in enumerate(rows):
        if verbose and number:
            yield Line()
        yield Line(_headline(row, name_model=several_models), COLOURS.get(row.stands))
        if row.change is not None:
            yield Line(f"{INDENT}{_change_text(row, row.change)}", _change_colour(row.change))
        if verbose:
            yield from _whole_row(row)
        elif row.stands != "passed":
            yield from _why(row)


def gate_lines(results: Results, *, conclusion: str) -> Iterator[Line]:
    """What the comparison found, what decided, and the conclusion; nothing without a baseline and a gate."""
    yield from comparison_lines(results.comparison, conclusion=conclusion if results.gate is None else None)
    if results.gate is not None:
        yield Line()
        for reason in results.gate.reasons:
            yield Line(f"⚖️  {shortened(reason, limit=300)}")
        yield Line(f"{INDENT}Conclusion: {conclusion}", COLOURS.get(conclusion, "yellow"))


def comparison_lines(comparison: ComparisonShown | None, *, conclusion: str | None) -> Iterator[Line]:
    """What the comparison found, which rule the conclusion rests on, and it; nothing without a baseline.

    Without a conclusion something else than a rule about rows may have decided: then neither is told.
    """
    if comparison is None:
        return
    counts = ", ".join(f"{count} {_WORDS.get(status, status)}" for status, count in comparison.rows.items() if count)
    yield Line()
    yield Line(f"📐 Against {_source(comparison.source)}:")
    yield Line()
    yield Line(f"{INDENT}{counts}")
    base = (
        f" ({comparison.base_trials:,} of them made now with the package as it was)" if comparison.base_trials else ""
    )
    yield Line(f"{INDENT}{comparison.baseline_trials:,} trials before{base}; {comparison.rerun_trials:,} run again")
    if conclusion is not None:
        yield Line(f"{INDENT}{_RULES.get(comparison.rule, comparison.rule)}")
    for word, rows in (("Removed", comparison.removed), ("Changed, so not compared", comparison.changed)):
        for row in rows:
            name = f"{row.get('title', '')} · {row.get('model', '')}"
            yield Line(f"{INDENT}{word}: {shortened(name, limit=200)}", "yellow")
    if conclusion is not None:
        yield Line(f"{INDENT}Conclusion: {conclusion}", COLOURS.get(conclusion, "yellow"))


def _source(source: SourceShown | None) -> str:
    """`the baseline (branch main, 12 runs, the newest of 2026-01-02 03:04 UTC)`."""
    if source is None:
        return "the baseline"
    newest = f", the newest of {_minute(source.newest_at)}" if source.newest_at else ""
    runs = "1 run" if source.jobs == 1 else f"{source.jobs} runs"
    return f"the baseline ({source.kind} {shortened(source.name, limit=100)}, {runs}{newest})"


def summary_lines(summary: Summary) -> Iterator[Line]:
    """The block of sums. `Failed` counts verdicts only; errors and skipped cases have lines of their own."""
    without_verdict = summary.tests_errored + summary.tests_skipped
    yield Line("📈 Summary:")
    yield Line()
    yield Line(f"{INDENT}Total Tests: {summary.total_tests}")
    yield Line(f"{INDENT}Passed: {summary.tests_passed} ✅")
    yield Line(f"{INDENT}Failed: {max(summary.tests_failed - without_verdict, 0)} ❌")
    if summary.tests_errored:
        yield Line(f"{INDENT}Errors: {summary.tests_errored} ⚠️")
    if summary.tests_skipped:
        yield Line(f"{INDENT}Skipped: {summary.tests_skipped} ⏭️")
    score = f"{summary.overall_score * 100:.1f}%" if without_verdict < summary.total_tests else "none without a verdict"
    yield Line(f"{INDENT}Overall Score: {score}")
    yield Line(f"{INDENT}Total Duration: {summary.total_duration_ms / 1000:.1f}s")
    yield Line(f"{INDENT}Total Tokens: {summary.total_tokens:,}")
    yield Line(f"{INDENT}{_cost(summary)}")
    if summary.cached:
        since = f" of {_minute(summary.cached_at)}" if summary.cached_at else ""
        yield Line(f"{INDENT}Cached: yes, from an identical run{since}; --no-cache runs it again")
    elif summary.trials_cached:
        count = f"{summary.trials_cached:,} answer" + ("" if summary.trials_cached == 1 else "s")
        yield Line(f"{INDENT}Cached: {count} from earlier runs")
    if summary.judge_agreement is not None:
        agreement = summary.judge_agreement
        asked = "1 verdict that was" if agreement.n == 1 else f"{agreement.n} verdicts that were"
        yield Line(f"{INDENT}Judge agrees with itself: {percent(agreement.share)} of {asked} asked for again")
    costs = {name: found.cost_usd_per_pass for name, found in summary.by_model.items() if found.cost_usd_per_pass}
    if costs:
        named = ", ".join(f"{shortened(name, limit=100)} {exact_dollars(usd)}" for name, usd in costs.items() if usd)
        yield Line(f"{INDENT}A correct answer cost: {named}")
    yield from _derived_lines(summary.derived_metrics)
    for note in summary.notes:
        yield Line()
        yield Line(f"⚠️ {note}", "yellow")


def _derived_lines(metrics: Mapping[str, Mapping[str, float]]) -> Iterator[Line]:
    """The suite's own figures, a line for each model."""
    found = [(model, figures) for model, figures in metrics.items() if figures]
    if found:
        yield Line(f"{INDENT}Metrics:")
    for model, figures in found:
        named = ", ".join(f"{shortened(name, limit=100)} {value:g}" for name, value in figures.items())
        yield Line(f"{INDENT}{INDENT}{shortened(model, limit=100)}: {named}")


def estimate_lines(found: Estimate) -> Iterator[Line]:
    """What a run would take, model by model, and whether it fits."""
    yield Line(f"🧮 Estimate for {found.package.name}@{found.package.version} (nothing was run or charged)")
    yield Line()
    yield Line(f"{INDENT}Tests: {_count(found.cases, 'case')}, {_count(found.trials, 'trial')}")
    for share in found.models:
        yield Line(f"{INDENT}{share.model}: {_share(share)}")
    for share in found.judges:
        yield Line(f"{INDENT}{share.model} as judge: {_share(share)}")
    yield Line(f"{INDENT}Total Tokens: {_between(found.tokens.low, found.tokens.high)}")
    yield Line(f"{INDENT}Cost: {_cost_range(found.cost_usd)}")
    yield Line()
    caps = found.caps
    yield Line(
        f"{INDENT}Caps: {dollars(caps.money_per_job_usd)} and {caps.trials_per_job:,} trials a job; "
        f"{dollars(caps.money_left_usd)} are left of this month"
    )
    yield Line({"yes": "✅ It fits.", "maybe": "⚠️ It may fit.", "no": "❌ It does not fit."}[found.fits])
    for obstacle in found.obstacles:
        yield Line(f"{INDENT}{obstacle}", "yellow")


def _share(share: ModelShare) -> str:
    calls = _between(share.calls.low, share.calls.high)
    tokens = _between(share.tokens.low, share.tokens.high)
    return f"{calls} {'call' if share.calls.high == 1 else 'calls'}, {tokens} tokens, {_cost_range(share.cost_usd)}"


def _between(low: int, high: int) -> str:
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _cost_range(cost: MoneyRange | None) -> str:
    if cost is None:
        return "unknown (a price is not known)"
    if cost.high == 0:
        return "free"
    return f"{dollars(cost.low)} to {dollars(cost.high)}"


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _minute(moment: str) -> str:
    """`2026-01-02 03:04 UTC` of `2026-01-02T03:04:05.678Z`."""
    return f"{moment[:10]} {moment[11:16]} UTC"


def _cost(summary: Summary) -> str:
    if not summary.cost_is_partial:
        return f"Cost: {dollars(summary.total_cost_usd)}"
    if summary.total_cost_usd == 0:
        return "Cost: unknown (no price is known for these models)"
    return f"Cost: at least {dollars(summary.total_cost_usd)} (some answers have no known price)"


def _headline(row: RowShown, *, name_model: bool) -> str:
    model = f" · {row.model}" if name_model else ""
    share = f" ({percent(row.score)})" if row.stands in ("passed", "failed") else ""
    quarantine = " · in quarantine" if row.quarantined else ""
    return f"{SIGNS.get(row.stands, '⚠️')} {shortened(row.title, limit=200)}{share}{model}{quarantine}"


def _change_text(row: RowShown, change: ChangeShown) -> str:
    """`regressed: 29 of 30 passed before, 1 of 7 when run again (p 0.0002)`."""
    word = _WORDS.get(change.status, change.status)
    # In quarantine nothing counts, and a pass needs no rule.
    counts = ", so a failure counts" if change.rule == "failure" and not (row.quarantined or row.passed) else ""
    if change.baseline is None:
        return f"{word}: nothing to compare with in the baseline{counts}"
    before = f"{change.baseline.passed} of {change.baseline.total} passed before"
    now = f", {change.reruns.passed} of {change.reruns.total} when run again" if change.reruns else ""
    p_value = f" (p {change.p_value:.2g})" if change.p_value is not None else ""
    return f"{word}: {before}{now}{p_value}{counts}"


def _change_colour(change: ChangeShown) -> str | None:
    return {"regressed": "red", "fixed": "green", "flaky": "yellow"}.get(change.status)


def _why(row: RowShown) -> Iterator[Line]:
    if row.trials:
        passed = sum(trial.state == "passed" for trial in row.trials)
        run, left_out = _run_counts(row)
        yield Line(f"{INDENT}{passed} of {run} repeats passed{left_out}{_likely(row.pass_rate)}")
    if row.error is not None:
        yield Line(f"{INDENT}{_error_text(row.error)}")
    elif row.stands == "skipped":
        yield Line(f"{INDENT}Not run")
    refused = [assertion for assertion in row.assertions if not assertion.passed]
    for assertion in refused:
        yield Line(f"{INDENT}{assertion.label}: {shortened(assertion.reason, limit=300)}")
    if row.stands == "failed":
        yield Line(f"{INDENT}Answer: {_piece(row.response, refused)}")


def _run_counts(row: RowShown) -> tuple[int, str]:
    """5 and nothing, or 2 and why it was not 5."""
    run = sum(trial.state != "skipped" for trial in row.trials)
    if row.stopped_early and run < len(row.trials):
        return run, f" ({len(row.trials) - run} more could not change the verdict)"
    return len(row.trials), ""


def _likely(rate: RateShown | None) -> str:
    return f"; the true rate is {percent(rate.low)} to {percent(rate.high)}" if rate else ""


def _piece(answer: str, refused: Sequence[AssertionShown]) -> str:
    """The shortest useful piece of the answer: around what a reason quotes, else how it begins."""
    quoted = [found for assertion in refused for found in _QUOTED.findall(assertion.reason)]
    return excerpt(answer, about=quoted) or "(empty)"


def _whole_row(row: RowShown) -> Iterator[Line]:
    yield Line(f"{INDENT}Model: {row.model}" + _answered_by(row.answered_by, row.model) + _seconds(row.duration_ms))
    if not row.trials:
        yield from _whole_answer(row.response, row.assertions, row.attempts, row.error, cache=row.cache)
    for number, trial in enumerate(row.trials, start=1):
        yield from _whole_trial(number, trial)


def _whole_trial(number: int, trial: TrialShown) -> Iterator[Line]:
    sign = SIGNS.get(trial.state, "⚠️")
    if trial.state == "skipped" and trial.error is None:
        yield Line(f"{INDENT}{sign} Repeat {number}: not run")
        return
    yield Line(f"{INDENT}{sign} Repeat {number} ({percent(trial.score)}){_seconds(trial.duration_ms)}")
    for line in _whole_answer(trial.response, trial.assertions, trial.attempts, trial.error, cache=trial.cache):
        yield Line(INDENT + line.text, line.colour)


def _whole_answer(
    response: str,
    assertions: Sequence[AssertionShown],
    attempts: Sequence[AttemptShown],
    error: ErrorShown | None,
    *,
    cache: CacheShown | None,
) -> Iterator[Line]:
    if cache is not None:
        yield Line(f"{INDENT}Cache: {cache.state}, {cache.reason}")
    for attempt in attempts:
        ended = attempt.error or "answered"
        status = f" (HTTP {attempt.status})" if attempt.status else ""
        yield Line(f"{INDENT}Attempt: {attempt.deployment}{_seconds(attempt.duration_ms)}: {ended}{status}")
    if error is not None:
        yield Line(f"{INDENT}{_error_text(error)}", "yellow")
    for assertion in assertions:
        sign = SIGNS["passed" if assertion.passed else "failed"]
        yield Line(f"{INDENT}{sign} {assertion.label} ({percent(assertion.score)}): {assertion.reason}")
    # A bar before each line: what a model writes is never mistaken for a line of ours, or for a CI command.
    yield from (Line(f"{INDENT}│ {line}") for line in (printable_lines(response) if response else ()))


def _error_text(error: ErrorShown) -> str:
    return f"{error.kind}: {error.message}" if error.kind else error.message


def _answered_by(answered_by: str | None, model: str) -> str:
    return f", answered by {answered_by}" if answered_by and answered_by != model else ""


def _seconds(duration_ms: float) -> str:
    return f", {duration_ms / 1000:.1f}s"
