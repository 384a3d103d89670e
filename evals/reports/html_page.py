"""HTML: one file that needs no other, has no script and asks no server for anything."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from evals.outcome import Outcome, Row
from evals.reports import Reported, report, shown_state
from evals.reports._words import SIGNS, about, answer, cost, figures, headline, model_name, reasons, score_of

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
details { border-top: 1px solid #8884; padding: .4rem 0; }
summary { cursor: pointer; overflow-wrap: anywhere; }
.model { opacity: .7; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid #8884; padding-left: .8rem; }
"""
# Nothing may be loaded or run, whatever a title or an answer holds.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@report("html", extensions=("html", "htm"), media_type="text/html; charset=utf-8")
def render(reported: Reported) -> bytes:
    """A page with the conclusion and every row, those that did not pass opened."""
    return "\n".join(_page(reported.outcome)).encode("utf-8", "replace")


def _page(outcome: Outcome) -> Iterator[str]:
    summary = outcome.summary
    title = escape(f"{summary.conclusion.capitalize()}: {figures(summary)}")
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="referrer" content="no-referrer"><meta name="viewport" content="width=device-width">'
    yield f"<title>{title}</title><style>{_STYLE}</style></head><body>"
    yield f"<h1>{title}</h1>"
    yield (
        f"<p>Score {score_of(summary)}, {summary.total_duration_ms / 1000:.1f} s, "
        f"cost {escape(cost(summary))}. Engine {escape(outcome.engine_version)}.</p>"
    )
    if outcome.comparison:
        counts = outcome.comparison.rows
        yield (
            f"<p>Against the baseline: {counts.regressed} regressed, {counts.fixed} fixed, {counts.flaky} flaky, "
            f"{counts.stable} stable, {counts.not_enough_data} without enough data. "
            f"Decided by {escape(outcome.comparison.rule)}.</p>"
        )
    if told := about(outcome):
        yield "<ul>" + "".join(f"<li><bdi>{escape(line)}</bdi></li>" for line in told) + "</ul>"
    for row in outcome.test_cases:
        yield from _row(row)
    yield "</body></html>\n"


def _row(row: Row) -> Iterator[str]:
    opened = " open" if row.state != "passed" else ""
    score = f" {row.score:.0%}" if row.state in ("passed", "failed") else ""
    yield (
        f"<details{opened}><summary>{SIGNS[shown_state(row)]} <bdi>{escape(headline(row))}</bdi>"
        f' <span class="model">{escape(model_name(row))}{score}</span></summary>'
    )
    if why := reasons(row):
        yield "<ul>" + "".join(f"<li><bdi>{escape(line)}</bdi></li>" for line in why) + "</ul>"
    if row.response:
        said = escape("\n".join(answer(row)))
        yield f"<pre>{said}</pre>"
    yield "</details>"
