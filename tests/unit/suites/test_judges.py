"""Who judges, as suites say it; and conversations."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evals.errors import InvalidSuite
from evals.suites import parse_suite_value
from evals.types import Assertion, Message, Panel, Suite, Turn

RUBRIC = {"type": "llm-rubric", "value": "is kind"}


def a_suite(*assertions: dict[str, Any], options: Any = None, **keys: Any) -> Suite:
    test: dict[str, Any] = {"input": "Hi", "assert": list(assertions or (RUBRIC,))}
    if options is not None:
        test["options"] = options
    return parse_suite_value({"tests": [test], **keys}, path="s.json")


def first(suite: Suite) -> Assertion:
    assertion = suite.cases[0].assertions[0]
    assert isinstance(assertion, Assertion)
    return assertion


def refusal(**keys: Any) -> str:
    with pytest.raises(InvalidSuite) as caught:
        parse_suite_value({"tests": [{"input": "Hi", "assert": [RUBRIC]}]} | keys, path="s.json")
    return "\n".join(caught.value.details)


def test_judge__one_name_stands_in_the_suite_as_before() -> None:
    suite = a_suite(judge="openai:gpt-4o")

    assert suite.judge == "gpt-4o"
    assert first(suite) == Assertion(type="llm-rubric", value="is kind")


def test_judge__several_of_the_suite_judge_each_graded_assertion_that_says_nothing() -> None:
    plain = {"type": "contains", "value": "x"}
    similar = {"type": "similar", "value": "x"}
    own = RUBRIC | {"provider": "gpt-4o"}
    both = {"type": "assert-set", "assert": [RUBRIC]}

    suite = a_suite(RUBRIC, plain, similar, own, both, judge={"models": ["openai:gpt-4o", "b"], "votes": 3})

    panel = Panel(models=("gpt-4o", "b"), votes=3)
    one, two, three, four, five = suite.cases[0].assertions
    assert suite.judge is None
    assert one == Assertion(type="llm-rubric", value="is kind", panel=panel)
    assert (two.panel, three.panel) == (None, None)  # type: ignore[union-attr] # they are no sets
    assert (four.model, four.panel) == ("gpt-4o", None)  # type: ignore[union-attr] # nor is this
    assert five.assertions[0].panel == panel  # type: ignore[union-attr] # this one is


def test_judge__of_an_assertion_comes_before_options_and_these_before_the_suite() -> None:
    votes = {"votes": 5}
    assert first(a_suite(RUBRIC | {"judge": votes}, judge="a")).panel == Panel(votes=5)
    assert first(a_suite(RUBRIC | {"judge": "gpt-4o"}, judge=votes)).model == "gpt-4o"
    assert first(a_suite(options={"provider": "gpt-4o"}, judge=votes)) == Assertion(
        type="llm-rubric", value="is kind", model="gpt-4o"
    )
    assert first(a_suite(judge={"models": ["a", "b", "c"]})).panel == Panel(models=("a", "b", "c"), votes=3)


def test_rubric_prompt__of_options_is_that_of_each_graded_assertion_without_one() -> None:
    suite = a_suite(
        RUBRIC, RUBRIC | {"rubricPrompt": "Own {{ output }}"}, {"type": "select-best", "value": "x"},
        options={"rubricPrompt": [{"role": "system", "content": "Grade"}, {"role": "user", "content": "{{ output }}"}]},
    )  # fmt: skip

    prompts = [item.rubric_prompt for item in suite.cases[0].assertions if isinstance(item, Assertion)]
    assert prompts == ["Grade\n\n{{ output }}", "Own {{ output }}", None]


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (7, "judge: must be the name of a model"),
        ({"models": "a"}, "judge.models: must be a list"),
        ({"models": [""]}, "judge.models: must be a list"),
        ({"votes": 0}, "judge.votes: must be a whole number from 1 to 9"),
        ({"votes": 10}, "judge.votes: must be a whole number from 1 to 9"),
        ({"models": ["a", "b"], "votes": 1}, "judge.models: are at most 5, and each has to have one of the 1 votes"),
        ({"models": ["a"] * 6}, "judge.models: are at most 5"),
        ({"model": "a"}, "judge.model: unknown key (did you mean models?)"),
    ],
)
def test_judge__that_cannot_be_used(judge: Any, said: str) -> None:
    assert said in refusal(judge=judge)


@pytest.mark.parametrize(
    ("assertion", "said"),
    [
        ({"type": "contains", "value": "x", "judge": {"votes": 3}}, "contains: asks no judge"),
        ({"type": "similar", "value": "x", "judge": {"votes": 3}}, "similar: asks no judge"),
        (RUBRIC | {"judge": "a", "provider": "b"}, "give `judge` or `provider`, not both"),
        (RUBRIC | {"rubricPrompt": 7}, "rubricPrompt: must be a text"),
        (RUBRIC | {"rubricPrompt": "file://p.txt"}, "rubricPrompt: file:// is not supported here"),
        (RUBRIC | {"rubricPrompt": "{% import 'x' %}"}, "rubricPrompt: a template cannot be used"),
        (RUBRIC | {"rubricPrompt": "x" * 20_001}, "`rubricPrompt` must be a text of at most 20,000 characters"),
    ],
)
def test_judge__of_an_assertion_that_cannot_be_used(assertion: dict[str, Any], said: str) -> None:
    assert said in refusal(tests=[{"input": "Hi", "assert": [assertion]}])


def test_turns__are_templates_with_assertions_of_their_own() -> None:
    turns = ["I am {{ name }}.", {"input": "Who am I?", "assert": [{"type": "contains", "value": "{{ name }}"}]}]
    test = {"turns": turns, "vars": {"name": ["Ines", "Olu"]}, "assert": [{"type": "not-is-refusal"}]}

    one, two = parse_suite_value({"tests": [test]}, path="s.json").cases

    assert one.messages == (Message("user", "I am Ines."),)
    assert one.turns == (
        Turn(content="I am Ines."),
        Turn(content="Who am I?", assertions=(Assertion(type="contains", value="Ines"),)),
    )
    assert one.assertions == (Assertion(type="not-is-refusal"),)
    assert two.turns[0].content == "I am Olu."
    assert msgspec.json.decode(msgspec.json.encode(one), type=type(one)) == one


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"turns": []}, "turns: must be a list of 1 to 20 texts, or objects {input, assert}"),
        ({"turns": ["a"] * 21}, "turns: must be a list of 1 to 20"),
        ({"turns": "a"}, "turns: must be a list of 1 to 20"),
        ({"turns": [7]}, "turns[0]: must be text, or an object {input, assert}"),
        ({"turns": [{"assert": []}]}, "turns[0]: must be text, or an object"),
        ({"turns": [{"input": 7}]}, "turns[0].input: must be text; put quotes around"),
        ({"turns": [{"input": "a", "role": "user"}]}, "turns[0].role: unknown key"),
        ({"turns": ["a"], "input": "b"}, "give `turns` or `input`, not both"),
        ({"turns": ["a"], "messages": []}, "give `turns` or `messages`, not both"),
        ({"turns": [{"input": "a", "assert": [{"type": "contain", "value": "x"}]}]}, 'did you mean "contains"?'),
    ],
)
def test_turns__that_cannot_be_used(test: dict[str, Any], said: str) -> None:
    assert said in refusal(tests=[test])
