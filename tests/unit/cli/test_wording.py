"""Numbers as people read them, and text that can do nothing."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.answers import AgreementShown, AssertionShown, ModelShown, RowShown, Summary, TrialShown
from cli.wording import dollars, percent, result_lines, summary_lines
from evals.printable import excerpt, printable, printable_lines, shortened


@pytest.mark.parametrize(
    ("score", "text"),
    [(1.0, "100%"), (0.0, "0%"), (0.5, "50%"), (2 / 3, "66.7%"), (0.9999, "99.9%"), (0.0001, "0.1%")],
)
def test_percent__never_rounds_to_a_verdict(score: float, text: str) -> None:
    assert percent(score) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(0.0, "$0.0000"), (0.0012, "$0.0012"), (0.00001, "<$0.0001"), (1.5, "$1.50"), (1234.5, "$1,234.50")],
)
def test_dollars__keeps_what_matters(amount: float, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("cost", "line"),
    [(0.0, "   Cost: unknown (no price is known for these models)"),
     (0.5, "   Cost: at least $0.5000 (some answers have no known price)")],
)  # fmt: skip
def test_summary__a_partial_cost_is_not_shown_as_a_whole(cost: float, line: str) -> None:
    summary = Summary(
        total_tests=1,
        tests_passed=1,
        tests_failed=0,
        overall_score=1,
        total_cost_usd=cost,
        cost_is_partial=True,
    )

    assert [shown.text for shown in summary_lines(summary)][-1] == line


def test_summary__without_any_verdict_shows_no_score() -> None:
    summary = Summary(total_tests=2, tests_passed=0, tests_failed=2, overall_score=0, tests_errored=1, tests_skipped=1)

    assert "   Overall Score: none without a verdict" in [shown.text for shown in summary_lines(summary)]


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, []),
        ({"trials_cached": 1}, ["   Cached: 1 answer from earlier runs"]),
        ({"trials_cached": 1200}, ["   Cached: 1,200 answers from earlier runs"]),
        (
            {"trials_cached": 3, "cached": True, "cached_at": "2026-01-02T03:04:05.678Z"},
            ["   Cached: yes, from an identical run of 2026-01-02 03:04 UTC; --no-cache runs it again"],
        ),
    ],
)
def test_summary__says_what_was_cached(fields: dict[str, object], lines: list[str]) -> None:
    summary = Summary(total_tests=1, tests_passed=1, tests_failed=0, overall_score=1, **fields)

    assert [line.text for line in summary_lines(summary) if "Cached" in line.text] == lines


@settings(max_examples=60, deadline=None)
@given(st.text() | st.text(alphabet="\x1b\x9b\x9d\x07\\[]0;31mHP\r\n\u202e\u2066##[x"))
def test_printable__I16_O5_leaves_nothing_that_acts(text: str) -> None:
    shown = printable(text)

    assert not {unicodedata.category(char) for char in shown} & {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert "##[" not in shown
    assert printable(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;https://evil.example\x07click\x1b]8;;\x07", "click"),
        ("\x9b2Jgone", "gone"),
        ("one\r\ntwo\tthree", "one two three"),
        ("é ✅ ⚠️ 日本", "é ✅ ⚠️ 日本"),
    ],
)
def test_printable__keeps_what_people_wrote(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_lines__keeps_lines() -> None:
    assert printable_lines("a\x1b[2J\r\nb\u2028c") == ["a", "b", "c"]


def test_shortened__is_one_line_within_its_limit() -> None:
    assert shortened("a\n\n  b", limit=10) == "a b"
    assert shortened("word " * 50, limit=10) == "word word…"


def test_excerpt__begins_at_the_start_if_nothing_is_found() -> None:
    assert excerpt("first " * 100, about=["other"], limit=20).startswith("first first")
    assert excerpt("x " * 500 + "needle", about=["absent", "needle"], limit=60).endswith("needle")


def test_summary__names_the_suites_own_figures_and_the_judges_agreement_with_itself() -> None:
    summary = Summary(
        total_tests=1,
        tests_passed=1,
        tests_failed=0,
        overall_score=1,
        derived_metrics={"gpt-4o": {"mean_right": 0.75, "f1": 2 / 3}, "other": {}},
        judge_agreement=AgreementShown(share=0.9, n=10),
        by_model={
            "gpt-4o": ModelShown(1.5),
            "other": ModelShown(),
            "cheap": ModelShown(0.0000214),
            "free": ModelShown(0),
        },
    )

    lines = [line.text for line in summary_lines(summary)]

    assert lines[-4:] == [
        "   Judge agrees with itself: 90% of 10 verdicts that were asked for again",
        "   A correct answer cost: gpt-4o $1.50, cheap $0.000021",
        "   Metrics:",
        "      gpt-4o: mean_right 0.75, f1 0.666667",
    ]


def test_results__say_which_answer_of_a_conversation_failed() -> None:
    refused = AssertionShown(type="contains", passed=False, reason="no", turn=2)
    row = RowShown(title="t", passed=False, score=0, response="r", model="m", duration_ms=1, assertions=(refused,))

    assert "   contains (turn 2): no" in [line.text for line in result_lines([row], verbose=False)]


def test_rows__repeats_that_were_left_out_stand_behind_the_count() -> None:
    states = ("passed", "failed", "failed", "skipped")
    trials = tuple(TrialShown(state=state, score=0.0) for state in states)
    row = RowShown(title="Greets", passed=False, score=0.0, trials=trials, stopped_early=True)

    (line,) = (line.text for line in result_lines((row,), verbose=False) if "repeats" in line.text)

    assert line == "   1 of 3 repeats passed (1 more could not change the verdict)"
