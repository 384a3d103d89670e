"""The report as Markdown: a comment on a pull request, a note on a merge request, a check's summary.

At a glance: verdict and score against the base, what regressed, what was fixed, flaky rows apart, cost and time, the
baseline and its age, the models. All else is folded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from notifiers._findings import (
    SIGNS,
    Findings,
    ModelLine,
    by_model,
    cost_text,
    got,
    headline,
    p_value,
    rates,
    score_text,
    what_failed,
)
from notifiers._markdown import Budget, Table, assemble, code, link
from notifiers._notice import Notice
from notifiers._outcome import Row, RowKey
from notifiers._standing import Part, Standing
from notifiers._text import NOTHING, age, counted, dollars, percent, seconds

# Rows of one kind that stand unfolded.
AT_A_GLANCE = 10
TITLE_CHARS = 120
MODEL_CHARS = 60
REASON_CHARS = 160
QUOTE_CHARS = 120
NOTE_CHARS = 300
MOST_NOTES = 3
MOST_LINES = 40
MOST_LINE_CHARS = 1_000
STANDING_SIGNS = {"queued": "⏳", "in_progress": "⏳", "success": "✅", "neutral": "⚪", "inconclusive": "⚠️",
                  "cancelled": "⚪", "failure": "❌", "action_required": "✋"}  # fmt: skip
# What somebody has to do something about is read first.
PARTS_ORDER = ("failure", "action_required", "cancelled", "inconclusive", "in_progress", "queued", "neutral", "success")
MOST_PARTS = 100


def report(notice: Notice, findings: Findings, *, budget: Budget, marker: str = "") -> str:
    """The whole report within the budget; `marker` is its first line."""
    return assemble(
        head=(f"{marker}\n" if marker else "") + _head(notice, findings),
        tables=_tables(notice, findings),
        budget=budget,
        left_out=lambda count: _left_out(count, notice),
    )


def title_line(notice: Notice, findings: Findings) -> str:
    """`❌ 2 regressions, score 81 % (−12 points)`: the verdict first, in words of ours alone."""
    sign = SIGNS.get(notice.conclusion, "⚠️")
    score = f", score {score_text(notice)}" if notice.outcome.test_cases else ""
    return f"{sign} {headline(notice, findings)}{score}"


def standing_text(standing: Standing, *, budget: Budget, marker: str = "") -> str:
    """What is to be said of a check without an outcome; other people's text only as code, a line a line of it."""
    parts = [f"### {STANDING_SIGNS.get(standing.state, '⚠️')} {code(standing.headline, limit=TITLE_CHARS * 2)}\n"]
    if standing.package is not None:
        parts.append(f"{code(standing.package, limit=214)} · {code(standing.suite, limit=120)}")
    parts += [code(line, limit=MOST_LINE_CHARS) for line in standing.summary.splitlines()[:MOST_LINES] if line.strip()]
    parts += _part_lines(standing.parts)
    if standing.url:
        parts.append(link("**details**", standing.url))
    text = marker
    for part in parts:
        longer = f"{text}\n{part}\n" if text else f"{part}\n"
        if budget.holds(longer):
            text = longer
    return text


def _part_lines(parts: Sequence[Part]) -> list[str]:
    """A line for each package, the worst first."""
    ordered = sorted(parts, key=lambda part: (PARTS_ORDER.index(part.state), part.package, part.suite))
    lines = [_part_line(part) for part in ordered[:MOST_PARTS]]
    return [*lines, f"… and {counted(len(ordered) - MOST_PARTS, 'more package')}"] if ordered[MOST_PARTS:] else lines


def _part_line(part: Part) -> str:
    about = f"{code(part.package, limit=214)} · {code(part.suite, limit=120)}: {code(part.title, limit=TITLE_CHARS)}"
    details = f" · {link('details', part.url)}" if part.url else ""
    return f"- {STANDING_SIGNS[part.state]} {about}{details}"


def _head(notice: Notice, findings: Findings) -> str:
    sign = SIGNS.get(notice.conclusion, "⚠️")
    about = f"{code(notice.package, limit=214)} · {code(notice.suite, limit=120)}"
    verdict = f"### {sign} Prompt tests: {headline(notice, findings)}"
    notes = "".join(
        f"⚠️ {code(note, limit=NOTE_CHARS)}\n\n" for note in (notice.outcome.summary.notes or ())[:MOST_NOTES]
    )
    score = f" · **score {score_text(notice)}**" if notice.outcome.test_cases else ""
    return f"{verdict}\n\n{about}{score}\n\n{_facts(notice)}\n\n{notes}"


def _facts(notice: Notice) -> str:
    """Cost, time, commit, baseline and its age, link."""
    summary = notice.outcome.summary
    facts = [cost_text(summary), seconds(summary.total_duration_ms), *_cache_facts(notice)]
    if notice.head_sha:
        facts.append(f"commit {code(notice.head_sha[:7])}")
    facts.append(_baseline_fact(notice))
    if notice.url:
        facts.append(link("**full result**", notice.url))
    return " · ".join(fact for fact in facts if fact)


def _cache_facts(notice: Notice) -> list[str]:
    summary = notice.outcome.summary
    if summary.cached:
        return ["as an identical job before"]
    return [f"{counted(summary.trials_cached, 'answer')} kept from earlier runs"] if summary.trials_cached else []


def _baseline_fact(notice: Notice) -> str:
    baseline, comparison = notice.baseline, notice.outcome.comparison
    if baseline is None:
        return "compared with earlier runs" if comparison else "no baseline yet"
    parts = [f"baseline {code(baseline.label, limit=80)}"]
    if comparison and comparison.baseline_trials:
        parts.append(counted(comparison.baseline_trials, "trial"))
    if baseline.made_at is not None:
        parts.append(f"{age((notice.finished_at - baseline.made_at).total_seconds())} old")
    return ", ".join(parts)


def _left_out(count: int, notice: Notice) -> str:
    return f"… and {counted(count, 'more row')}; see the {link('full result', notice.url)}."


def _tables(notice: Notice, findings: Findings) -> list[Table]:
    """What is seen at a glance, then what is folded: first the rest of the former."""
    comparison = notice.outcome.comparison
    at_a_glance = (
        ("**Regressed**", "more regressed row", _CLAIM, findings.regressed, _claim_cells),
        ("**Failed**", "more failed row", _FAILURE, findings.failed, _failure_cells),
        ("**Fixed**", "more fixed row", _RATE, findings.fixed, _rate_cells),
        ("**Flaky**: pass and fail by chance, not counted", "more flaky row", _RATE, findings.flaky, _rate_cells),
        ("**Models**", "more model", _MODEL, by_model(notice.outcome.test_cases), _model_cells),
    )
    tables = [
        *(
            Table(title=title, columns=columns, rows=rows[:AT_A_GLANCE], cells=cells)
            for title, _, columns, rows, cells in at_a_glance
        ),
        *(_folded(one, f"{one}s", columns, rows[AT_A_GLANCE:], cells) for _, one, columns, rows, cells in at_a_glance),
        *(
            _folded(f"row {words}", f"rows {words}", columns, rows, cells)
            for words, columns, rows, cells in (
                ("without a verdict", _TROUBLE, findings.without_verdict, _trouble_cells),
                ("removed from the suite", _KEY, comparison.removed if comparison else (), _name_cells),
                ("changed, so not compared", _KEY, comparison.changed if comparison else (), _name_cells),
                ("failed as before", _FAILURE, findings.known, _failure_cells),
                ("in quarantine", _FAILURE, findings.quarantined, _failure_cells),
                ("passed", _PASSED, findings.passed, _passed_cells),
            )
        ),
    ]
    return [table for table in tables if table.rows]


def _folded(
    one: str, many: str, columns: Sequence[str], rows: Sequence[Any], cells: Callable[[Any], Sequence[str]]
) -> Table:
    return Table(title=counted(len(rows), one, many), columns=columns, rows=rows, cells=cells, folded=True)


_CLAIM = ("Case", "Model", "What failed", "Got", "Passed before → now", "p")
_FAILURE = ("Case", "Model", "What failed", "Got")
_RATE = ("Case", "Model", "Passed before → now", "p")
_TROUBLE = ("Case", "Model", "Why")
_KEY = ("Case", "Model")
_PASSED = ("Case", "Model", "Score")
_MODEL = ("Model", "Passed", "Score", "Cost", "Time per row")


def _name_cells(row: Row | RowKey) -> tuple[str, str]:
    return code(row.title, limit=TITLE_CHARS), code(row.model, limit=MODEL_CHARS)


def _failure_cells(row: Row) -> tuple[str, ...]:
    return (
        *_name_cells(row),
        code(what_failed(row), limit=REASON_CHARS),
        code(got(row, limit=QUOTE_CHARS), limit=QUOTE_CHARS + 2),
    )


def _claim_cells(row: Row) -> tuple[str, ...]:
    return (*_failure_cells(row), rates(row) or NOTHING, p_value(row) or NOTHING)


def _rate_cells(row: Row) -> tuple[str, ...]:
    return (*_name_cells(row), rates(row) or NOTHING, p_value(row) or NOTHING)


def _trouble_cells(row: Row) -> tuple[str, ...]:
    why = row.error.message if row.error else "it was not run"
    return (*_name_cells(row), code(why, limit=REASON_CHARS))


def _passed_cells(row: Row) -> tuple[str, ...]:
    return (*_name_cells(row), percent(row.score))


def _model_cells(line: ModelLine) -> tuple[str, ...]:
    return (
        code(line.model, limit=MODEL_CHARS),
        f"{line.passed:,} of {line.total:,}",
        percent(line.score) if line.score is not None else NOTHING,
        dollars(line.cost_usd) if line.cost_usd is not None else NOTHING,
        seconds(line.duration_ms),
    )
