"""What stands beside a line of the suite's file: one annotation a row that did not pass."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from notifiers._findings import Findings, got, p_value, rates, what_failed
from notifiers._notice import Notice
from notifiers._outcome import Row
from notifiers._text import cut, one_line

TITLE_CHARS = 255
MESSAGE_CHARS = 2_000
# GitHub takes 50 at once; beyond some hundreds nobody reads them, and each batch costs a request.
MOST = 500
_PATH = 500


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """Plain text: nobody renders it."""

    path: str
    line: int
    level: str  # failure, warning or notice
    title: str
    message: str


def annotate(notice: Notice, findings: Findings) -> tuple[Annotation, ...]:
    """In an order that depends on the outcome alone, most important first; none if the suite is in no file."""
    if not notice.suite_path or len(notice.suite_path) > _PATH:
        return ()
    kinds = (
        (findings.regressed, "failure", "Regressed"),
        (findings.failed, "failure", "Failed"),
        (findings.errored, "warning", "No verdict"),
        ([row for row in findings.flaky if row.state == "failed"], "warning", "Flaky"),
    )
    marked = ((row, level, word) for rows, level, word in kinds for row in rows)
    return tuple(_annotation(notice, row, level, word) for row, level, word in islice(marked, MOST))


def _annotation(notice: Notice, row: Row, level: str, word: str) -> Annotation:
    lines = [f"What failed: {one_line(what_failed(row)) or 'a verdict'}"]
    if row.response:
        lines.append(f"Got: {got(row, limit=300)}")
    if rates(row):
        lines.append(f"Passed: {rates(row)}" + (f" (p {p_value(row)})" if p_value(row) else ""))
    return Annotation(
        path=notice.suite_path or "",
        line=max(notice.case_lines.get(row.title, 1), 1),
        level=level,
        title=cut(f"{word}: {one_line(row.title)} on {one_line(row.model)}", TITLE_CHARS),
        message=cut("\n".join(lines), MESSAGE_CHARS),
    )
