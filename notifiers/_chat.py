"""What both chats say, as plain pieces: the platform's file escapes them and cuts them to its sizes."""

from __future__ import annotations

from notifiers._findings import Findings, cost_text, got, p_value, rates, what_failed
from notifiers._notice import Notice
from notifiers._outcome import Row
from notifiers._text import counted, one_line, seconds

# A message that is glanced at; the page behind the link has the rest.
ROWS_SHOWN = 5
NAME_CHARS = 80
DETAIL_CHARS = 140


def facts(notice: Notice) -> tuple[str, ...]:
    """Cost, time and place, in our words, with the branch's name as the one foreign text."""
    summary = notice.outcome.summary
    where = (one_line(notice.ref)[:NAME_CHARS], notice.head_sha[:7])
    return tuple(part for part in (cost_text(summary), seconds(summary.total_duration_ms), *where) if part)


def row_name(row: Row) -> str:
    return f"{one_line(row.title)[:NAME_CHARS]} · {one_line(row.model)[:NAME_CHARS]}"


def row_details(row: Row) -> tuple[tuple[str, str], ...]:
    """Pairs of our word and other people's text."""
    pairs = [("failed", one_line(what_failed(row))[:DETAIL_CHARS]), ("got", got(row, limit=DETAIL_CHARS))]
    if rates(row):
        pairs.append(("passed", rates(row) + (f", p {p_value(row)}" if p_value(row) else "")))
    return tuple((word, text) for word, text in pairs if text)


def others(findings: Findings, shown: int) -> str:
    """What is not listed: `and 3 more failures, 2 fixed, 1 flaky`; empty if nothing is."""
    parts = []
    if more := len(findings.worst) - shown:
        parts.append(f"{more:,} more of these")
    for rows, word in ((findings.fixed, "fixed"), (findings.flaky, "flaky")):
        if rows:
            parts.append(f"{len(rows):,} {word}")
    if findings.without_verdict:
        parts.append(counted(len(findings.without_verdict), "row") + " without a verdict")
    return ", ".join(parts)
