"""Plain text: what a terminal or a mail shows."""

from __future__ import annotations

from collections.abc import Iterator

from evals.outcome import Row
from evals.reports import Reported, report, shown_state
from evals.reports._words import SIGNS, about, answer, cost, figures, headline, model_name, reasons, score_of


@report("text", extensions=("txt",), media_type="text/plain; charset=utf-8")
def render(reported: Reported) -> bytes:
    """The conclusion, then a line for each row with the reasons of those that did not pass."""
    return ("\n".join(_lines(reported)) + "\n").encode()


def _lines(reported: Reported) -> Iterator[str]:
    summary = reported.outcome.summary
    yield f"{summary.conclusion.upper()}: {figures(summary)}"
    yield f"Score {score_of(summary)}, {summary.total_duration_ms / 1000:.1f} s, cost {cost(summary)}"
    yield from about(reported.outcome)
    for row in reported.outcome.test_cases:
        yield ""
        yield from _row(row)


def _row(row: Row) -> Iterator[str]:
    yield f"{SIGNS[shown_state(row)]} {headline(row)} · {model_name(row)}"
    yield from (f"   {line}" for line in reasons(row))
    if row.state != "passed":
        # A bar before each line: what a model writes is never mistaken for a line of ours.
        yield from (f"   │ {line}" for line in answer(row) if row.response)
