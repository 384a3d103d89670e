"""Suites: where one is found, what its words mean, and what is said about one that cannot be used."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET

from evals.errors import InvalidSuite
from evals.folders import read_folder
from evals.manifests import read_manifest
from evals.suites import find_suite, parse_suite, parse_suite_value, read_suite, suite_digest
from evals.types import Assertion, AssertionSet, Case, Message, Suite

SAMPLES = Path(__file__).parents[1] / "samples"

MANIFEST = b'{"name": "a", "version": "1.0.0", "description": "A sample.", "format": "generic"}'
ONE = b"tests: [{input: x}]"
ONE_JSON = b'{"tests": [{"input": "x"}]}'


def a_suite(**test: Any) -> dict[str, Any]:
    """A suite of one valid case, changed by `test`."""
    return {"tests": [{"input": "Say hello", "assert": [{"type": "icontains", "value": "hello"}]} | test]}


def an_assertion(**fields: Any) -> dict[str, Any]:
    return a_suite(**{"assert": [{"type": "contains", "value": "x"} | fields]})


def details_of(value: Any) -> str:
    with pytest.raises(InvalidSuite) as caught:
        parse_suite_value(value, path="suite")
    return "\n".join(caught.value.details)


def test_suite__every_word_of_the_format_is_read() -> None:
    path = SAMPLES / "suites" / "full.test.yaml"

    suite = parse_suite(path.read_bytes(), path=path.name)

    never = Assertion(type="not-contains", value="As an AI")
    assert suite == Suite(
        description="Every word of the format",
        temperature=0.2,
        max_tokens=200,
        judge="gpt-4o",
        cases=(
            Case(
                title="Says hello",
                messages=(Message("user", "Say hello to Ada in a friendly way"),),
                assertions=(
                    never,
                    Assertion(type="icontains", value="Ada", weight=2.0, metric="names"),
                    AssertionSet(
                        assertions=(
                            Assertion(type="icontains", value="hello"),
                            Assertion(type="icontains", value="hi"),
                        ),
                        threshold=0.5,
                        weight=0.5,
                        metric="greeting",
                    ),
                ),
                threshold=0.5,
                vars={"tone": "friendly", "name": "Ada"},
                repeat=3,
                pass_rate=0.6,
                line=15,
            ),
            Case(
                title="Goes on talking",
                messages=(
                    Message("user", "My name is Ada."),
                    Message("assistant", "Hello Ada."),
                    Message("user", "What is my name?"),
                ),
                assertions=(never, Assertion(type="contains", value="Ada")),
                threshold=1.0,
                vars={"tone": "friendly"},
                line=33,
            ),
        ),
    )


def test_suite__of_promptfoo_fills_its_prompt_and_says_what_it_ignores() -> None:
    text = (SAMPLES / "suites" / "promptfooconfig.yaml").read_bytes()
    found = find_suite({"promptfooconfig.yaml": text, "a.md": b"x"}, read_manifest({"a.md": b"x"}))
    assert found is not None

    read = read_suite(found)

    assert [case.messages[0].content for case in read.suite.cases] == [
        "What is the capital of France?",
        "What is the capital of Norway?",
    ]
    assert [case.title for case in read.suite.cases] == ["Test 1", "Test 2"]
    assert read.suite.cases[1].assertions == (Assertion(type="equals", value="no"),)
    assert read.notes == ("`providers` does not choose the models; to test with the same ones: -m gpt-4o",)


def test_suite__case_without_assertions_is_noted() -> None:
    found = find_suite({"prpm.json": MANIFEST, "prpm.test.yaml": ONE}, read_manifest({"prpm.json": MANIFEST}))
    assert found is not None

    assert read_suite(found).notes == ("tests[0] asserts nothing: it passes whatever the model answers.",)


def test_find__takes_the_first_place_that_has_a_suite() -> None:
    places = ["prpm.test.yaml", "prpm.test.yml", "prpm.test.json", "tests/prpm.yaml", "tests/prpm.json"]
    files = {"prpm.json": MANIFEST, **dict.fromkeys([*places, "promptfooconfig.yaml"], ONE_JSON)}
    found = []

    while suite := find_suite(files, read_manifest(files)):
        found.append(suite.path)
        assert len(read_suite(suite).suite.cases) == 1
        del files[suite.path]

    assert found == [*places, "promptfooconfig.yaml"]


@pytest.mark.parametrize(
    "tests", [[{"input": "from the key"}], {"description": "d", "tests": [{"input": "from the key"}]}]
)
def test_find__key_in_the_entry_of_packages_comes_before_a_foreign_file(tests: Any) -> None:
    content = json.dumps({"packages": [json.loads(MANIFEST) | {"tests": tests}]}).encode()
    files = {"prpm.json": content, "promptfooconfig.yaml": ONE}

    found = find_suite(files, read_manifest(files))

    assert found is not None
    assert (found.path, found.json_pointer) == ("prpm.json", "/packages/0/tests")
    assert read_suite(found).suite.cases[0].messages == (Message("user", "from the key"),)


def test_find__error_in_the_key_names_its_line_and_path_in_the_manifest() -> None:
    files = read_folder(SAMPLES / "packages" / "several")
    files["prpm.json"] = files["prpm.json"].replace(b'"icontains"', b'"icontain"')
    found = find_suite(files, read_manifest(files, name="short"))
    assert found is not None

    with pytest.raises(InvalidSuite, match=r"prpm\.json, line 19: packages\[0\]\.tests\[0\]\.assert\[0\]\.type: "):
        read_suite(found)


def test_find__no_suite_is_none() -> None:
    files = {"prpm.json": MANIFEST, "tests/other.yaml": ONE}

    assert find_suite(files, read_manifest(files)) is None


@pytest.mark.parametrize(("path", "text"), [("a.yaml", ONE), ("a.json", ONE_JSON), ("body", ONE), ("body", ONE_JSON)])
def test_parse__goes_by_the_extension_or_tries(path: str, text: bytes) -> None:
    assert parse_suite(text, path=path).cases[0].messages == (Message("user", "x"),)


def test_parse__json_file_may_not_be_yaml() -> None:
    with pytest.raises(InvalidSuite, match=r"a\.json, line 1: not JSON"):
        parse_suite(ONE, path="a.json")


def test_parse__error_names_file_line_path_and_the_closest_word() -> None:
    checks = "[{type: icontains, value: a},\n {type: contians, value: a}]"
    text = f"tests:\n  - input: a\n    assert: {checks}\n"

    with pytest.raises(InvalidSuite) as caught:
        parse_suite(text, path="prpm.test.yaml")

    assert caught.value.message.startswith("prpm.test.yaml, line 4: tests[0].assert[1].type: ")
    assert "contains" in caught.value.message
    assert len(caught.value.details) == 1


def test_parse__every_finding_has_its_own_line() -> None:
    text = "tests:\n  - inptu: a\n    assert: [hello]\n  - input: 7\n    repeat: 0\n"

    with pytest.raises(InvalidSuite) as caught:
        parse_suite(text, path="prpm.test.yaml")

    assert caught.value.details == (
        (
            "line 2: tests[0].inptu: unknown key (did you mean input?); known here: description, title, "
            "input, messages, turns, vars, assert, threshold, repeat, pass_rate, quarantine, options"
        ),
        (
            "line 3: tests[0].assert[0]: must be an object, not text; "
            'write `{type: icontains, value: "hello"}`, or another type'
        ),
        "line 2: tests[0]: needs `input`, `messages` or `turns`, or `vars` for a prompt in the suite's `prompts`",
        "line 4: tests[1].input: must be text; put quotes around 7",
        "line 5: tests[1].repeat: must be a whole number from 1 to 100",
    )


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "must hold `tests`"),
        ("text", "must hold `tests`"),
        ({}, "tests: must be a list of at least one"),
        ({"tests": []}, "tests: must be a list of at least one"),
        ({"test": []}, "test: unknown key (did you mean tests?)"),
        ({"tests": ["x"]}, "tests[0]: must be an object"),
        ({"tests": "file://cases.csv"}, "tests: file:// works in a suite inside a package only"),
        ({"tests": "https://example.org/sheet"}, "tests: tests from addresses, services and programs"),
        (a_suite(messages=[]), "give `input` or `messages`, not both"),
        ({"tests": [{"messages": []}]}, "messages: must be a list of 1 to 100"),
        (
            {"tests": [{"messages": [{"role": "user", "content": 1}]}]},
            "content: must be text; put quotes around 1",
        ),
        ({"tests": [{"messages": [{"role": "bot", "content": ""}]}]}, "role: must be one of system, user"),
        (
            {"tests": [{"messages": [{"role": "assistant", "content": ""}]}]},
            "the last message must be the user's",
        ),
        (a_suite(title="a", description="b"), "give `title` or `description`"),
        (a_suite(title="x" * 301), "longer than 300"),
        (a_suite(description=False), "description: must be text; put quotes around false"),
        (a_suite(repeat=101), "repeat: must be a whole number from 1 to 100"),
        (a_suite(repeat=True), "repeat: must be a whole number"),
        (a_suite(pass_rate=1.5), "pass_rate: must be from 0 to 1"),
        (a_suite(quarantine="yes"), "quarantine: must be true or false"),
        ({"defaultTest": {"quarantine": True}, "tests": []}, "defaultTest.quarantine: unknown key"),
        (a_suite(threshold="0.5"), "threshold: must be a number"),
        (a_suite(vars=[1]), "vars: must be an object"),
        (a_suite(vars={"a": ["x", 7]}), "vars.a: a list makes a case of each of its texts; put quotes"),
        (a_suite(vars={"a": "file://x.txt"}), "vars.a: file:// works in a suite inside a package only"),
        (a_suite(input="file://x.txt"), "input: file:// works in a suite inside a package only"),
        (a_suite(**{"assert": "contains: x"}), "assert: must be a list"),
        (an_assertion(value="file://x.txt"), "value: file:// works in a suite inside a package only"),
        (an_assertion(value=["a", "file://x"]), "value[1]: file:// works in a suite inside a package only"),
        (an_assertion(transform="output.x"), "contains: `transform` runs the author's code"),
        (an_assertion(vlaue="x"), "vlaue: unknown key (did you mean value?)"),
        (an_assertion(weight=-1), "weight: must be from 0"),
        (an_assertion(type=1), "type: must be the name of an assertion"),
        (an_assertion(provider={"id": "x"}), "provider: must be text"),
        (an_assertion(provider="a", model="b"), "give `model` or `provider`"),
        (an_assertion(type="assert-set", value="x"), "value: unknown key"),
        (
            a_suite(**{"assert": [{"type": "assert-set", "assert": [{"type": "assert-set", "assert": []}]}]}),
            "a set cannot hold another set",
        ),
        (a_suite(options={"transform": "x"}), "options.transform: promptfoo's `transform` is not supported"),
        (a_suite() | {"scenarios": {}}, "scenarios: must be a list"),
        (a_suite() | {"prompts": []}, "prompts: must hold 1 to 100 prompts"),
        (a_suite() | {"prompts": ["file://p.txt"]}, "prompts[0]: file:// works in a suite inside a package only"),
        (a_suite() | {"prompts": ['[{"role": "user"}]']}, "prompts[0][0].content: must be text"),
        (a_suite() | {"providers": ["file://provider.py"]}, "providers: providers that run code"),
        (a_suite() | {"providers": [{"id": "https://x.example"}]}, "providers: providers that run code"),
        (a_suite() | {"temperature": 3}, "temperature: must be from 0 to 2"),
        (a_suite() | {"max_tokens": 0}, "max_tokens: must be a whole number from 1 to 100,000"),
        (a_suite() | {"defaultTest": {"input": "x"}}, "defaultTest.input: unknown key"),
        (a_suite() | {"defaultTest": "file://x.yaml"}, "defaultTest: file:// works in a suite inside a package only"),
    ],
)
def test_suite__that_cannot_be_used_says_what_to_change(value: Any, words: str) -> None:
    assert words in details_of(value)


def test_suite__I16_words_of_the_author_are_shown_escaped() -> None:
    details = details_of(a_suite(**{"\x1b[31m\n<b>": 1}))

    assert details.isprintable()
    assert "tests[0].\\x1b[31m\\n<b>: unknown key" in details


def test_suite__I9_to_I12_yaml_tricks_are_invalid_suites() -> None:
    for trick in (
        "a: !!python/name:os.system",
        "a: &a 1\nb: *a",
        "[" * 3000,
        "a: .inf",
        "tests: 1\ntests: 2",
        "a: \0",
    ):
        with pytest.raises(InvalidSuite, match=r"x\.yaml, line \d"):
            parse_suite(trick, path="x.yaml")


@pytest.mark.parametrize("bad", ["x\0y", "\ud800", float("inf"), 2**64, object()])
def test_suite__I14_decoded_value_that_json_cannot_hold_is_refused(bad: Any) -> None:
    assert "tests[0].vars.a" in details_of(a_suite(vars={"a": bad}))


def test_suite__I14_deep_value_is_refused() -> None:
    deep: Any = "x"
    for _ in range(2_000):
        deep = [deep]

    assert "nested more than 40 deep" in details_of(an_assertion(value=deep))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"tests": [{"input": "x"}] * 2_001}, "has 2,001 test cases; 2,000 are the most"),
        (a_suite(**{"assert": [{"type": "contains", "value": "x"}] * 51}), "has 51 assertions"),
        (
            a_suite() | {"defaultTest": {"assert": [{"type": "contains", "value": "x"}] * 50}},
            "tests[0]: has 51 assertions; 50 are the most",
        ),
        (a_suite(input="x" * 200_001), "longer than 200,000 characters"),
        (a_suite(input="x" * 1_000_001), "larger than 1,000,000 bytes"),
    ],
)
def test_suite__I13_past_the_limits_is_refused(value: Any, words: str) -> None:
    assert words in details_of(value)


def test_suite__I13_small_file_that_templates_make_large_is_refused() -> None:
    long = {"defaultTest": {"vars": {"long": "x" * 100_000}}, "tests": [{"input": "{{long}}{{long}}"}] * 300}

    assert "make more than 20,000,000 characters in all" in details_of(long)


def test_suite__wrong_template_in_a_default_is_found_once() -> None:
    default = {"assert": [{"type": "contains", "value": "{% if"}]}
    value = {"defaultTest": default, "tests": [{"input": "a"}, {"input": "b"}]}

    assert details_of(value).count("\n") == 0
    assert "defaultTest.assert[0].value: a template cannot be used" in details_of(value)


def test_suite__schema_keeps_its_braces() -> None:
    schema = {"type": "object", "description": "{{not a template}}"}

    suite = parse_suite_value(an_assertion(type="is-json", value=schema), path="a")

    assert suite.cases[0].assertions == (Assertion(type="is-json", value=schema),)


def test_suite__2000_cases_are_read_soon() -> None:
    cases = [{"input": f"Say {n}", "assert": [{"type": "contains", "value": str(n)}]} for n in range(2_000)]
    defaults = {"assert": [{"type": "not-contains", "value": f"never {n}"} for n in range(20)]}
    text = json.dumps({"defaultTest": defaults, "tests": cases})
    started = time.process_time()

    suite = parse_suite(text, path="a.yaml")

    assert len(suite.cases) == 2_000
    assert len(suite.cases[0].assertions) == 21
    assert time.process_time() - started < 5


def test_assertion__without_value_stays_without() -> None:
    suite = parse_suite_value(a_suite(**{"assert": [{"type": "is-json"}]}), path="a")

    assert suite.cases[0].assertions == (Assertion(type="is-json", value=UNSET),)


def test_assertion__template_is_rendered_for_each_case_before_it_is_checked() -> None:
    value = {
        "defaultTest": {"assert": [{"type": "contains-any", "value": ["{{word}}", "b"]}]},
        "tests": [{"input": "x", "vars": {"word": "one"}}, {"input": "x", "vars": {"word": "two"}}],
    }

    suite = parse_suite_value(value, path="a")

    assert [case.assertions[0] for case in suite.cases] == [
        Assertion(type="contains-any", value=["one", "b"]),
        Assertion(type="contains-any", value=["two", "b"]),
    ]


def test_assertion__provider_is_promptfoos_word_for_the_judging_model() -> None:
    suite = parse_suite_value(an_assertion(type="llm-rubric", value="is kind", provider="gpt-4o"), path="a")

    assert suite.cases[0].assertions == (Assertion(type="llm-rubric", value="is kind", model="gpt-4o"),)


def test_yaml__no_and_dates_are_texts_in_a_suite() -> None:
    suite = parse_suite("tests: [{input: no, vars: {day: 2024-01-31}}]", path="a.yaml")

    assert suite.cases[0].messages[0].content == "no"
    assert suite.cases[0].vars == {"day": "2024-01-31"}


def test_digest__knows_the_meaning_and_not_the_place() -> None:
    one = parse_suite("tests: [{input: a}]", path="a.yaml")
    moved = parse_suite('# moved\n\n{"tests":\n[{"input": "a"}]}', path="a.yaml")

    assert one != moved
    assert suite_digest(one) == suite_digest(moved)
    assert suite_digest(one) != suite_digest(msgspec.structs.replace(one, temperature=0.5))
    assert len(suite_digest(one)) == 64
