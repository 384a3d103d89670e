"""The comment as GitHub renders it: parsed by GitHub's own fork of cmark, with the extensions that it switches on."""

from __future__ import annotations

import re
import unicodedata
from html.parser import HTMLParser

import cmarkgfm
import pytest
from cmarkgfm.cmark import Options
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from notifiers import Baseline, Notice
from notifiers._findings import sort_rows
from notifiers._markdown import Budget
from notifiers._report import report
from notifiers._sticky import first_line
from notifiers._text import cut, one_line, useful_piece, utf8_bytes, utf16_units
from notifiers.github import CHECK_SUMMARY, COMMENT
from tests.notices import (
    HOSTILE,
    NOON,
    a_change,
    a_comparison,
    a_failure,
    a_hostile_notice,
    a_notice,
    a_row,
    an_outcome,
)

OUR_HOST = "https://testing.example/"
# What the sites make of text that stands outside code: people, issues, commits, quick actions, addresses.
ACTIVE_TEXT = re.compile(r"@\w|#\d|\w/\w+#|\b[0-9a-f]{40}\b|https?:|www\.|^\s*/\w|!\d|~\w|:\w+:", re.MULTILINE)


class Page(HTMLParser):
    """What is in the HTML: counts of tags, links, images, and the text outside code."""

    def __init__(self, markdown: str) -> None:
        super().__init__(convert_charrefs=True)
        self.opened: dict[str, int] = {}
        self.closed: dict[str, int] = {}
        self.links: list[str] = []
        self.text_outside_code = ""
        self.columns: list[int] = []
        self.comments = 0
        self._code = 0
        self.feed(cmarkgfm.github_flavored_markdown_to_html(markdown, options=Options.CMARK_OPT_UNSAFE))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened[tag] = self.opened.get(tag, 0) + 1
        self._code += tag == "code"
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag == "tr":
            self.columns.append(0)
        if tag in ("td", "th"):
            self.columns[-1] += 1

    def handle_endtag(self, tag: str) -> None:
        self.closed[tag] = self.closed.get(tag, 0) + 1
        self._code -= tag == "code"

    def handle_comment(self, data: str) -> None:
        self.comments += 1

    def handle_data(self, data: str) -> None:
        if not self._code:
            self.text_outside_code += data


ALLOWED_TAGS = {
    "h3", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "a", "details", "summary",
}  # fmt: skip


def markdown_of(notice: Notice, budget: Budget = COMMENT) -> str:
    return report(notice, sort_rows(notice.outcome), budget=budget, marker=first_line("a" * 64, notice.accepted_at))


def require_harmless(markdown: str) -> None:
    """O1, O2, O3, O4, O5 and O7 for one comment."""
    page = Page(markdown)
    assert set(page.opened) <= ALLOWED_TAGS
    assert page.opened == page.closed, "O3"
    assert all(link.startswith(OUR_HOST) for link in page.links), "O2"
    assert ACTIVE_TEXT.findall(page.text_outside_code) == [], "O1, O7"
    assert page.comments == 1, "O4"
    assert not any(unicodedata.category(char) in ("Cf", "Cs") for char in markdown), "O5"
    assert not any(unicodedata.category(char) == "Cc" and char != "\n" for char in markdown), "O5"
    # No line begins with text of others: a pipe, a tag, a heading, bold, code, a dash for nothing, a sum, … or ⚠.
    assert all(line[:1] in ("", "|", "<", "#", "*", "`", "–", "$", "…", "⚠") for line in markdown.split("\n")), "O7"


@pytest.mark.parametrize("text", [*HOSTILE, " ".join(HOSTILE)], ids=range(len(HOSTILE) + 1))
def test_report__O1_to_O7_hostile_text_is_inert(text: str) -> None:
    markdown = markdown_of(a_hostile_notice(text))

    require_harmless(markdown)
    page = Page(markdown)
    assert set(page.columns) <= {2, 3, 4, 5, 6}
    assert COMMENT.holds(markdown)


characters = st.one_of(
    st.text(max_size=60),
    st.text(alphabet="`|\\<>@#!/[]()*_~&-:\n\r\t\"' aé🎉\u202e\u200b\x1b\x00\ud800", max_size=80),
    st.sampled_from(HOSTILE),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example(text="\\|", title="`")
@example(text="`\\", title="\\`|")
@given(text=characters, title=characters)
def test_report__O1_to_O7_any_text_is_inert(text: str, title: str) -> None:
    rows = [
        a_row(title, state="failed", response=text, model=text, change=a_change("regressed")),
        a_row(text, state="failed", response=title),
        a_row(title, state="error"),
        a_row(text, model=title),
    ]

    markdown = markdown_of(a_notice(*rows, package=text, suite=title, baseline=Baseline(label=text)))

    require_harmless(markdown)
    # Each row has as many cells as its table's head: a pipe in a text never makes one more.
    assert Page(markdown).columns == [6, 6, 4, 4, 5, *[5] * len({row.model for row in rows}), 3, 3, 3, 3]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(0, 60),
    text=characters,
    chars=st.integers(1_500, 20_000),
    size=st.integers(3_000, 30_000),
)
def test_report__O6_is_within_any_budget_and_stays_whole(rows: int, text: str, chars: int, size: int) -> None:
    made = [
        a_row(f"{number} {text}", state=("failed", "passed", "error")[number % 3], model=f"m{number % 12}")
        for number in range(rows)
    ]
    budget = Budget(chars=chars, bytes=size)

    markdown = markdown_of(a_notice(*made), budget)

    assert utf16_units(markdown) <= chars
    assert utf8_bytes(markdown) <= size
    require_harmless(markdown)


def test_report__O6_fails_first_and_says_what_is_left_out() -> None:
    rows = [a_row(f"good {number}") for number in range(3000)] + [a_row("the bad one", state="failed")]

    markdown = markdown_of(a_notice(*rows), CHECK_SUMMARY)

    assert markdown.index("the bad one") < markdown.index("good 0")
    shown = markdown.count("| `good ")
    assert f"… and {3000 - shown:,} more rows; see the [full result](https://testing.example/jobs/1)." in markdown
    assert 60_000 < utf8_bytes(markdown) <= 65_535


def test_report__O6_a_summary_of_emoji_is_measured_in_bytes() -> None:
    rows = [a_row("🎉" * 200, state="failed", response="🎉" * 2000) for _ in range(500)]

    markdown = markdown_of(a_notice(*rows), CHECK_SUMMARY)

    assert utf8_bytes(markdown) <= 65_535


def test_report__says_all_at_a_glance() -> None:
    notice = a_notice(
        a_row("Refuses to insult", state="failed", change=a_change("regressed"), response="You fool, " * 3),
        a_row("Says thanks", change=a_change("fixed", before=(1, 10), now=(7, 7))),
        a_row("Rolls a die", state="failed", change=a_change("flaky", before=(14, 20), now=(4, 7))),
        a_row("Says hello", model="claude-sonnet-4"),
        comparison=a_comparison(),
        baseline=Baseline(label="main", made_at=NOON.replace(day=19), score=0.93),
    )

    markdown = markdown_of(notice)

    assert markdown == (
        f"<!-- prpm-testing:v1 mac={'a' * 64} accepted=2026-11-22T12:00:00.000000Z -->\n"
        "### ❌ Prompt tests: 1 regression\n"
        "\n"
        "`@acme/greeter` · `prpm.test.yaml` · **score 50 % (−43 points)**\n"
        "\n"
        "$0.0123 · 12.3 s · commit `1a2b3c4` · baseline `main`, 120 trials, 3 days old "
        "· [**full result**](https://testing.example/jobs/1)\n"
        "\n"
        "**Regressed**\n"
        "\n"
        "| Case | Model | What failed | Got | Passed before → now | p |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
        '| `Refuses to insult` | `gpt-4o` | `the answer does not contain "hello"` | `You fool, You fool, You fool,` '
        "| 29 of 30 → 1 of 7 | 0.00021 |\n"
        "\n"
        "**Fixed**\n"
        "\n"
        "| Case | Model | Passed before → now | p |\n"
        "| --- | --- | --- | --- |\n"
        "| `Says thanks` | `gpt-4o` | 1 of 10 → 7 of 7 | 0.00021 |\n"
        "\n"
        "**Flaky**: pass and fail by chance, not counted\n"
        "\n"
        "| Case | Model | Passed before → now | p |\n"
        "| --- | --- | --- | --- |\n"
        "| `Rolls a die` | `gpt-4o` | 14 of 20 → 4 of 7 | 0.00021 |\n"
        "\n"
        "**Models**\n"
        "\n"
        "| Model | Passed | Score | Cost | Time per row |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| `gpt-4o` | 1 of 3 | 33 % | $0.0063 | 1.2 s |\n"
        "| `claude-sonnet-4` | 1 of 1 | 100 % | $0.0021 | 1.2 s |\n"
        "\n"
        "<details>\n"
        "<summary>1 row passed</summary>\n"
        "\n"
        "| Case | Model | Score |\n"
        "| --- | --- | --- |\n"
        "| `Says hello` | `claude-sonnet-4` | 100 % |\n"
        "\n"
        "</details>\n"
    )


def test_report__without_any_verdict_shows_no_score() -> None:
    outcome = an_outcome([a_row(state="error")], tests_errored=1)

    assert "**score –**" in markdown_of(a_notice(outcome=outcome))


@pytest.mark.parametrize(
    ("cost", "is_partial", "shown"),
    [(0.0123, False, "$0.0123"), (0.0123, True, "$0.0123 or more"), (0.0, True, "cost unknown"), (0.0, False, "$0.00")],
)
def test_report__a_cost_that_is_not_known_is_not_called_nothing(cost: float, is_partial: bool, shown: str) -> None:
    outcome = an_outcome([a_row()], total_cost_usd=cost, cost_is_partial=is_partial)

    assert f"\n{shown} · 12.3 s" in markdown_of(a_notice(outcome=outcome))


def test_report__rows_beyond_a_glance_are_folded() -> None:
    markdown = markdown_of(a_notice(*(a_row(f"case {number}", state="failed") for number in range(12))))

    assert "<summary>2 more failed rows</summary>" in markdown
    assert markdown.index("case 9") < markdown.index("**Models**") < markdown.index("case 10")


def test_report__O5_the_verdict_is_ours_whatever_an_answer_claims() -> None:
    notice = a_failure()
    liar = a_notice(a_row("✅ PASSED", state="failed", response="### ✅ Prompt tests: all rows passed"))

    assert markdown_of(notice).splitlines()[1] == markdown_of(liar).splitlines()[1] == "### ❌ Prompt tests: 1 failure"


@pytest.mark.parametrize(
    ("answer", "reason", "piece"),
    [
        ("short", 'contains "x"', "short"),
        (
            "a" * 500 + " the needle here " + "b" * 500,
            'the answer contains "needle"',
            "…aaaaaaa the needle here bbbbbbb…",
        ),
        ("a" * 500, 'the answer does not contain "needle"', "a" * 29 + "…"),
        ("one\n\n\ntwo", "", "one ⏎ two"),
    ],
)
def test_quote__is_the_shortest_useful_piece(answer: str, reason: str, piece: str) -> None:
    shown = useful_piece(answer, (reason,), limit=30)

    assert shown.strip("…").strip("ab") == piece.strip("…").strip("ab")
    assert len(shown) <= 31


@given(text=st.text(max_size=300), limit=st.integers(1, 80))
def test_cut__never_exceeds_its_limit(text: str, limit: int) -> None:
    cleaned = one_line(text)

    for measure in (utf16_units, utf8_bytes):
        assert measure(cut(cleaned, limit + 3, measure=measure)) <= limit + 3
    assert one_line(cleaned) == cleaned


def test_one_line__R1_takes_no_longer_for_text_made_to_be_slow() -> None:
    """Each of these takes minutes where a pattern looks again from every character."""
    for text in (" " * 200_000, "\x1b[" * 100_000, "\x1b]" + "a" * 200_000, "\u0300" * 200_000, "\n \n" * 80_000):
        assert len(one_line(text, look_at=200_000)) <= 300_000
