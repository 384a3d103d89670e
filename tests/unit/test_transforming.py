"""`transform`: an author's JavaScript makes of the answer what an assertion judges."""

from __future__ import annotations

import msgspec
import pytest

from evals.assertions import Answer
from evals.errors import InvalidAssertion, InvalidSuite
from evals.grading import Graded, check_assertion, grade
from evals.suites import FoundSuite, parse_suite, read_suite
from evals.types import Assertion, AssertionSet, Case
from tests.unit.assertions.test_graded import SayingJudge


async def judged(*assertions: Assertion | AssertionSet, text: str = "It is Paris.", allow_code: bool = True) -> Graded:
    answer = Answer(text=text, vars={"city": "Paris"})
    judge = SayingJudge(says={"pass": True, "score": 1.0, "reason": "r"})
    case = Case(title="t", messages=(), assertions=assertions)
    return await grade(case, answer, judge, allow_code=allow_code)


@pytest.mark.parametrize(
    ("type_", "value", "transform", "text"),
    [
        ("equals", 12, "output.length", "It is Paris."),
        ("equals", "IT IS PARIS.", "output.toUpperCase()", "It is Paris."),
        ("equals", {"a": 1}, "JSON.parse(output.slice(6))", 'Here: {"a": 1}'),
        ("contains", "Paris", "return context.vars.city;", "-"),
        ("not-contains", "Paris", "output.slice(0, 5)", "It is Paris."),
        ("is-json", msgspec.UNSET, "[output]", "It is Paris."),
        ("llm-rubric", "is kind", "output.trim()", " x "),
    ],
)
async def test_transform__what_it_gives_is_judged(type_: str, value: object, transform: str, text: str) -> None:
    graded = await judged(Assertion(type=type_, value=value, transform=transform), text=text)

    assert graded.error is None
    assert graded.state == "passed"


async def test_transform__is_each_assertions_own() -> None:
    long, whole = Assertion(type="equals", value=2, transform="output.length"), Assertion(type="equals", value="ab")

    graded = await judged(whole, AssertionSet(assertions=(long, whole)), text="ab")

    assert graded.state == "passed"


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        ("nothing", "in `transform` the code failed: ReferenceError"),
        ("undefined", "`transform` gave nothing"),
        ("null", "`transform` gave nothing"),
        ("new Promise(() => {})", "waits for something that never comes"),
    ],
)
async def test_transform__that_fails_is_an_error_as_nobody_knows_what_to_judge(transform: str, said: str) -> None:
    for type_ in ("contains", "not-contains", "llm-rubric"):
        graded = await judged(Assertion(type=type_, value="x", transform=transform))

        assert graded.state == "error"
        assert graded.error is not None
        assert said in graded.error.message


@pytest.mark.parametrize("type_", ["contains", "not-equals", "llm-rubric"])
async def test_transform__is_refused_by_name_unless_code_is_allowed(type_: str) -> None:
    spec = Assertion(type=type_, value="x", transform="output")

    with pytest.raises(InvalidAssertion, match=f"^{type_}: `transform` runs the author's code"):
        check_assertion(spec)
    graded = await judged(spec, allow_code=False)
    assert (graded.state, graded.assertions) == ("error", ())
    with pytest.raises(InvalidAssertion, match="must be code"):
        check_assertion(msgspec.structs.replace(spec, transform=" "), allow_code=True)


def test_transform__in_a_suite_is_read_where_code_is_allowed() -> None:
    text = 'tests: [{input: x, assert: [{type: equals, value: 1, transform: "output.length"}]}]'

    with pytest.raises(InvalidSuite) as caught:
        parse_suite(text, path="s.yaml")
    (case,) = read_suite(FoundSuite("s.yaml", text.encode()), allow_code=True).suite.cases

    assert "equals: `transform` runs the author's code" in caught.value.details[0]
    assert "`prpm test --local --allow-code`" in caught.value.details[0]
    assert case.assertions == (Assertion(type="equals", value=1, transform="output.length"),)
