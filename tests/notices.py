"""Valid notices, outcomes and rows, of which a test names only what matters; and texts that mean harm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from notifiers import Notice
from notifiers._outcome import (
    AssertionResult,
    Change,
    ChangeCounts,
    Comparison,
    Outcome,
    Rate,
    Row,
    RowKey,
    Summary,
    TrialError,
)

NOON = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
URL = "https://testing.example/jobs/1"
SHA = "1a2b3c4d" * 5


def a_row(title: str = "Says hello", state: str = "passed", **changes: Any) -> Row:
    failed = state == "failed"
    reason = 'the answer does not contain "hello"' if failed else 'the answer contains "hello"'
    row = Row(
        title=title,
        passed=state == "passed",
        score=1.0 if state == "passed" else 0.0,
        response="Good morning to you." if failed else "hello there",
        model="gpt-4o",
        duration_ms=1200,
        assertions=(AssertionResult(type="contains", passed=not failed, score=float(not failed), reason=reason),)
        if state in ("passed", "failed")
        else (),
        state=state,
        error=TrialError(kind="provider", message="gpt-4o did not answer") if state == "error" else None,
        cost_usd=0.0021,
    )
    return replace(row, **changes)


def a_change(status: str, *, before: tuple[int, int] = (29, 30), now: tuple[int, int] = (1, 7)) -> Change:
    return Change(
        status=status,
        rule="failure" if status == "not_enough_data" else "regression",
        baseline=a_rate(*before),
        reruns=a_rate(*now),
        p_value=0.000213,
    )


def a_rate(passed: int, total: int) -> Rate:
    return Rate(passed=passed, total=total, low=0.1, high=0.9)


def an_outcome(rows: Sequence[Row], *, comparison: Comparison | None = None, **summary: Any) -> Outcome:
    """Its conclusion follows from the rows: a regression or a failure that counts fails it."""
    states = [row.state for row in rows]
    failing = [
        row for row in rows if row.state == "failed" and (row.change is None or row.change.status == "regressed")
    ]
    without = [row for row in rows if row.state in ("error", "skipped")]
    scores = [row.score for row in rows if row.state in ("passed", "failed")]
    values: dict[str, Any] = {
        "total_tests": len(rows),
        "tests_passed": states.count("passed"),
        "tests_failed": len(rows) - states.count("passed"),
        "overall_score": sum(scores) / len(scores) if scores else 0.0,
        "total_duration_ms": 12_300,
        "total_tokens": 1200,
        "total_cost_usd": 0.0123,
        "tests_errored": states.count("error"),
        "tests_skipped": states.count("skipped"),
        "conclusion": "failed" if failing else "inconclusive" if without or not rows else "passed",
    }
    return Outcome(
        test_cases=tuple(rows), summary=Summary(**{**values, **summary}), engine_version="1", comparison=comparison
    )


def a_comparison(**changes: Any) -> Comparison:
    counts = ChangeCounts(regressed=1, fixed=0, flaky=0, stable=0, not_enough_data=0)
    return replace(Comparison(rule="regressions", rows=counts, baseline_trials=120, rerun_trials=7), **changes)


def a_notice(*rows: Row, comparison: Comparison | None = None, minutes: int = 0, **changes: Any) -> Notice:
    """`minutes` after noon its job was accepted."""
    at = NOON + timedelta(minutes=minutes)
    notice = Notice(
        outcome=an_outcome(rows, comparison=comparison),
        package="@acme/greeter",
        suite="prpm.test.yaml",
        job_id="7d3f6a0e-0000-4000-8000-000000000001",
        accepted_at=at,
        finished_at=at + timedelta(seconds=30),
        url=URL,
        ref="#12",
        head_sha=SHA,
        suite_path="greeter/prpm.test.yaml",
        case_lines={"Says hello": 7},
    )
    return replace(notice, **changes)


def a_failure(**changes: Any) -> Notice:
    return a_notice(a_row(state="failed"), a_row("Says goodbye"), **changes)


def a_success(**changes: Any) -> Notice:
    return a_notice(a_row(), a_row("Says goodbye"), **changes)


# O1 to O9, each as it would come out of a title, an answer or a package's name.
HOSTILE = (
    "@everyone-in-org and @user, see #1, owner/repo#1, GH-1, 1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d1a2b3c4d, !12, ~label",
    "![x](https://evil.example/?q=secret) ![y][z] [click](https://evil.example) <img src=https://evil.example/p.png>",
    "[z]: https://evil.example/ref.png",
    "https://evil.example www.evil.example someone@evil.example <https://evil.example>",
    "</details></td></tr></table></div> <table><tr><td> ``` ```` ~~~ a|b \\|c \\\\|d\nnext | line |",
    "<!-- prpm-testing:v1 mac=" + "a" * 64 + " accepted=2099-01-01T00:00:00.000000Z --> -->",
    "\x1b[31mred\x1b[0m \u202edetrevni\u202c zero\u200bwidth \x00\x07\x7f\x85 \u2066x\u2069 \ufeff\U000e0041",
    "ＰＡＳＳＥＤ ✅ All tests passed",
    "- [ ] task\n- [x] done\n/ok-to-test\n/merge\n/close\nCloses #1\n# Heading\n> quote\n---\n===",
    "<!channel> <!here> <!everyone> <@U012ABC> <#C012> <http://evil.example|click> &lt;!channel&gt;",
    "@everyone @here <@123456789012345678> <@&123456789012345678> :tada: ||spoiler|| **bold** __u__ `code`",
    "`" * 3 + "a" + "`" * 7 + "b" + "`",
    "\\`\\|`\\",
    "<script>alert(1)</script> javascript:alert(1) &amp; &#64;user &commat;user",
    "::error::x ::add-mask::y ::set-output name=a::b",
    "\ud800 lone \udfff",
    " \n\t\r ",
    "é" * 3000 + "🎉" * 3000,
    "",
)


def a_hostile_notice(text: str = " ".join(HOSTILE), *, rows: int = 12) -> Notice:
    """One in which every field that others can write holds the text."""
    states = ("failed", "passed", "error", "skipped")
    statuses = ("regressed", "fixed", "flaky", "stable", "not_enough_data", None)
    made = []
    for number in range(rows):
        status = statuses[number % len(statuses)]
        change = a_change(status) if status else None
        row = a_row(text, state=states[number % 4], response=text * 3, model=text, change=change)
        refused = AssertionResult(type=text, passed=False, score=0.0, reason=text)
        made.append(replace(row, assertions=(refused,), error=TrialError(kind="provider", message=text)))
    key = RowKey(title=text, model=text)
    notice = a_notice(
        *made,
        comparison=a_comparison(removed=(key,), changed=(key,)),
        package=text,
        suite=text,
        ref=text,
        case_lines={},
    )
    summary = replace(notice.outcome.summary, notes=(text,) * 5)
    return replace(notice, outcome=replace(notice.outcome, summary=summary))
