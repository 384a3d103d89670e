"""The registry's test cases as a suite."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from evals.registry_cases import RegistryCase, suite_of_cases
from evals.suites import parse_suite_value
from evals.types import Assertion


def a_case(**changes) -> RegistryCase:
    return RegistryCase(
        **{"title": "Greets", "input": "Hi", "expected_criteria": ("Says hello.",), "confidence_score": "0.90"}
        | changes
    )


def test_cases__criteria_become_rubrics_and_the_surest_come_first():
    value = suite_of_cases(
        [
            a_case(title="second"),
            a_case(title="first", confidence_score=0.95),
            a_case(title="odd", confidence_score="x"),
        ]
    )

    assert value is not None
    assert [test["description"] for test in value["tests"]] == ["first", "second", "odd"]
    assert value["tests"][0] == {
        "description": "first",
        "input": "Hi",
        "assert": [{"type": "llm-rubric", "value": "Says hello."}],
    }


def test_cases__that_expect_nothing_say_nothing_or_are_retired_are_left_out():
    assert suite_of_cases([a_case(expected_criteria=(" ",)), a_case(input="\n"), a_case(is_active=False)]) is None


def test_cases__of_a_registry_that_keeps_many_are_fifty():
    value = suite_of_cases([a_case(title=str(number)) for number in range(60)])

    assert value is not None
    assert len(value["tests"]) == 50


@given(
    asked=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip),
    criterion=st.text(st.sampled_from('{}%#"\\n a\u00e9'), min_size=1).filter(str.strip),
)
def test_cases__I13_texts_are_no_templates(asked: str, criterion: str):
    value = suite_of_cases([a_case(input="{{ " + asked, expected_criteria=(criterion,))])

    assert value is not None
    (case,) = parse_suite_value(value, path="registry").cases
    assert case.messages[-1].content == "{{ " + asked
    (check,) = case.assertions
    assert isinstance(check, Assertion)
    assert check.value == criterion.strip()
