"""Markdown: a table of all rows and the reasons of those that did not pass. For job summaries and comments.

Text that is not ours stands in code only: nothing in a code span or block is a mention, link, image, tag or command.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from evals.outcome import Outcome, Row
from evals.reports import Reported, report, shown_state
from evals.reports._words import SIGNS, about, answer, cost, figures, headline, model_name, reasons, score_of

MOST_ROWS = 1_000
MOST_DETAILS = 50


@report("markdown", extensions=("md",), media_type="text/markdown; charset=utf-8")
def render(reported: Reported) -> bytes:
    """The conclusion, a table of all rows with those that did not pass first, and their reasons."""
    outcome = reported.outcome
    rows = sorted(outcome.test_cases, key=lambda row: shown_state(row) == "passed")
    parts = [*_head(outcome), "\n".join(_table(rows[:MOST_ROWS]))]
    if len(rows) > MOST_ROWS:
        parts.append(f"And {len(rows) - MOST_ROWS:,} more rows.")
    told = [row for row in rows if row.state != "passed"]
    parts += [_detail(row) for row in told[:MOST_DETAILS]]
    if len(told) > MOST_DETAILS:
        parts.append(f"And {len(told) - MOST_DETAILS:,} more that did not pass.")
    return ("\n\n".join(parts) + "\n").encode()


def _head(outcome: Outcome) -> Iterator[str]:
    summary = outcome.summary
    state = {"passed": "passed", "failed": "failed"}.get(summary.conclusion, "error")
    yield f"# {SIGNS[state]} {summary.conclusion.capitalize()}: {figures(summary)}"
    yield f"Score {score_of(summary)}, {summary.total_duration_ms / 1000:.1f} s, cost {cost(summary)}."
    if told := about(outcome):
        yield _block(told)
    if outcome.comparison:
        counts = outcome.comparison.rows
        yield (
            f"Against the baseline: {counts.regressed} regressed, {counts.fixed} fixed, {counts.flaky} flaky, "
            f"{counts.stable} stable, {counts.not_enough_data} without enough data. "
            f"Decided by {outcome.comparison.rule}."
        )


def _table(rows: Sequence[Row]) -> Iterator[str]:
    yield "| | test | model | score |"
    yield "| --- | --- | --- | --- |"
    for row in rows:
        score = f"{row.score:.0%}" if row.state in ("passed", "failed") else ""
        cells = (SIGNS[shown_state(row)], _cell(headline(row)), _cell(model_name(row)), score)
        yield f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    """A code span inside a table, where a bar ends the cell even in code."""
    return _span(text).replace("|", "\\|")


def _span(text: str) -> str:
    ticks = "`" * (_longest_run(text, "`") + 1)
    # A space on both sides is taken off again by readers, and needed next to a back-tick.
    return f"{ticks} {text} {ticks}"


def _detail(row: Row) -> str:
    title = f"**{SIGNS[shown_state(row)]}** {_span(headline(row))} on {_span(model_name(row))}"
    said = ["", "Answer:", *answer(row)] if row.response else []
    return f"{title}\n\n{_block([*reasons(row), *said])}"


def _block(lines: Sequence[str]) -> str:
    text = "\n".join(lines)
    fence = "`" * max(_longest_run(text, "`") + 1, 3)
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str, char: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(char)}+", text)), default=0)
