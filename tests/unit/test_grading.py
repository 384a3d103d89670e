"""Grading of one answer: order, aggregation, errors, and what is refused before any answer is there."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer
from evals.errors import CannotJudge, InvalidAssertion
from evals.grading import Graded, check_assertion, grade
from evals.types import Assertion, AssertionSet, Case, Message, TrialError

YES, NO = "ok", "zzz"
ANSWER = Answer(text="ok then", question="well?")


def contains(value: str, **fields: Any) -> Assertion:
    return Assertion(type="contains", value=value, **fields)


def rubric(value: str = "is kind", **fields: Any) -> Assertion:
    return Assertion(type="llm-rubric", value=value, **fields)


def case(*assertions: Assertion | AssertionSet, threshold: float | None = None) -> Case:
    return Case(title="a case", messages=(), assertions=assertions, threshold=threshold)


async def graded(*assertions: Assertion | AssertionSet, threshold: float | None = None, judge: Any = None) -> Graded:
    return await grade(case(*assertions, threshold=threshold), ANSWER, judge)


class FakeJudge:
    """Gives one opinion, or has one kind of trouble, and counts how often it was asked."""

    def __init__(self, *, passes: bool = True, score: float = 1.0, trouble: Exception | None = None) -> None:
        self.opinion = {"pass": passes, "score": score, "reason": "because"}
        self.trouble = trouble
        self.asked = 0

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        self.asked += 1
        if self.trouble:
            raise self.trouble
        return self.opinion


@pytest.mark.parametrize(
    ("assertions", "threshold", "state", "score"),
    [
        ([], None, "passed", 1.0),
        ([contains(YES), contains(NO)], None, "failed", 0.5),
        ([contains(YES), contains(NO)], 0.5, "passed", 0.5),
        ([contains(YES), contains(NO)], 0.51, "failed", 0.5),
        ([contains(NO)], 0.0, "passed", 0.0),
        ([contains(YES, weight=3), contains(NO)], 0.75, "passed", 0.75),
        ([contains(NO, weight=0), contains(YES)], None, "passed", 1.0),
        ([contains(NO, weight=0)], None, "passed", 0.0),
        ([contains(YES, weight=0)], 0.1, "failed", 0.0),
        ([contains(YES, weight=-1), contains(NO)], None, "failed", 0.0),
        ([contains(YES)] * 3 + [contains(NO)] * 7, 0.3, "passed", 0.3),
        ([], 1.5, "passed", 1.0),
    ],
)
async def test_grade__weights_and_thresholds(
    assertions: list[Assertion], threshold: float | None, state: str, score: float
) -> None:
    result = await graded(*assertions, threshold=threshold)

    assert (result.state, result.score) == (state, score)


@pytest.mark.parametrize(
    ("members", "set_fields", "state", "score", "components"),
    [
        ([YES, NO], {}, "failed", 0.75, [False, True, False, True]),
        ([YES, NO], {"threshold": 0.5}, "passed", 0.75, [True, True, False, True]),
        ([YES, NO], {"threshold": 0.5, "weight": 3}, "passed", 0.625, [True, True, False, True]),
        ([NO, NO], {"threshold": 0.5, "weight": 0}, "failed", 1.0, [False, False, False, True]),
        ([NO, NO], {"threshold": 0}, "passed", 0.5, [True, False, False, True]),
    ],
)
async def test_grade__set_counts_as_one_component_before_its_members(
    members: list[str], set_fields: dict[str, Any], state: str, score: float, components: list[bool]
) -> None:
    one = AssertionSet(assertions=tuple(map(contains, members)), **set_fields)

    result = await graded(one, contains(YES))

    assert (result.state, result.score) == (state, score)
    assert [component.passed for component in result.assertions] == components
    assert result.assertions[0].type == "assert-set"


async def test_grade__named_scores_are_weighted_means() -> None:
    inner = AssertionSet(assertions=(contains(NO, metric="a"), contains(YES, metric="b")), weight=2, metric="b")

    result = await graded(contains(YES, metric="a", weight=3), contains(NO, metric="zero", weight=0), inner)

    # "a": (1 x 3 + 0 x 1 x 2) / 5; the set, with score 0.5, speaks for its own metric.
    assert result.named_scores == {"a": 0.6, "zero": 0.0, "b": 0.5}


async def test_grade__result_says_what_was_asked_and_why() -> None:
    result = await graded(contains(NO, weight=2, metric="m"), Assertion(type="not-contains", value=NO))

    first, second = result.assertions
    assert (first.type, first.passed, first.score, first.weight, first.metric) == ("contains", False, 0.0, 2, "m")
    assert first.reason == second.reason == "the answer does not contain 'zzz'"
    assert (second.type, second.passed, second.score) == ("not-contains", True, 1.0)


async def test_grade__graded_assertion_is_asked_after_a_deterministic_one_failed() -> None:
    judge = FakeJudge(score=0.8)

    result = await graded(rubric(), contains(NO), judge=judge)

    assert judge.asked == 1
    assert [component.type for component in result.assertions] == ["llm-rubric", "contains"]
    assert (result.state, result.score) == ("failed", 0.4)


async def test_grade__not_turns_a_graded_score_round() -> None:
    result = await graded(Assertion(type="not-llm-rubric", value="rude"), judge=FakeJudge(passes=False, score=0.25))

    assert (result.state, result.score) == ("passed", 0.75)


@pytest.mark.parametrize("kind", ["judge", "timeout"])
async def test_grade__judges_trouble_is_an_error_and_the_rest_is_still_reported(kind: Any) -> None:
    judge = FakeJudge(trouble=CannotJudge("the judge gave no JSON", kind=kind))

    result = await graded(rubric(), contains(NO), judge=judge, threshold=0)

    assert (result.state, result.score) == ("error", 0.0)
    assert result.error == TrialError(kind=kind, message="the judge gave no JSON")
    assert [(component.type, component.passed) for component in result.assertions] == [("contains", False)]


async def test_grade__no_judge_for_a_graded_assertion() -> None:
    result = await graded(rubric())

    assert result.error == TrialError(
        kind="judge", message="llm-rubric: no model is there to judge; name one as the judge"
    )


async def test_grade__mistake_inside_an_assertion_is_an_error_that_shows_no_values() -> None:
    result = await graded(rubric(), judge=FakeJudge(trouble=RuntimeError("secret")))

    assert result.error == TrialError(
        kind="assertion", message="llm-rubric: the assertion itself failed with RuntimeError"
    )


@pytest.mark.parametrize(
    "assertion", [contains(""), Assertion(type="Equals", value="x"), Assertion(type="regex", value="(")]
)
async def test_grade__unusable_assertion_is_an_error(assertion: Assertion) -> None:
    result = await graded(assertion, contains(YES))

    assert result.state == "error"
    assert result.error
    assert result.error.kind == "assertion"


async def test_grade__cancellation_is_let_through() -> None:
    class Waiting(FakeJudge):
        async def ask(self, *_: Any, **__: Any) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

    task = asyncio.create_task(graded(rubric(), judge=Waiting()))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    ("type_", "hint"),
    [
        ("Equals", '; did you mean "equals"?'),
        ("not-contain", '; did you mean "not-contains"?'),
        ("NOT-equals", ""),
        ("not-not-equals", '; did you mean "not-equals"?'),
        ("llm_rubric", '; did you mean "llm-rubric"?'),
        ("qqq", ""),
    ],
)
def test_check__unknown_type_names_the_closest_and_all_known(type_: str, hint: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        check_assertion(Assertion(type=type_, value="x"))

    message = str(caught.value)
    assert message.startswith(f'unknown assertion type "{type_}"')
    assert hint in message
    assert all(name in message for name in ASSERTIONS)


@pytest.mark.parametrize(
    ("assertion", "message"),
    [
        (Assertion(type=""), "the assertion has no `type`"),
        (contains(YES, weight=-1), "contains: `weight` must be a number of at least 0"),
        (contains(YES, weight=float("nan")), "contains: `weight` must be a number of at least 0"),
        (contains(YES, threshold=float("inf")), "contains: `threshold` must be a number of at least 0"),
        (rubric(threshold=1.01), "llm-rubric: `threshold` is a score and lies between 0 and 1"),
        (contains(""), "contains: `value` must be a text that is not empty, or a number"),
        (Assertion(type="not-starts-with", value=1), "not-starts-with: `value` must be a text that is not empty"),
    ],
)
def test_check__says_what_to_change(assertion: Assertion, message: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        check_assertion(assertion)

    assert str(caught.value) == message


def test_check__usable_assertions_pass() -> None:
    check_assertion(contains(YES, threshold=5, weight=0))
    check_assertion(Assertion(type="levenshtein", value="x", threshold=12))
    check_assertion(rubric(threshold=1))


async def test_grade__R2_patterns_that_run_elsewhere_have_verdicts_and_can_be_turned_round() -> None:
    assertions = [
        Assertion(type="regex", value="ok(?= then)"),
        Assertion(type="not-regex", value="ok(?= then)", weight=0),
        Assertion(type="not-is-json", value={"pattern": "(?=a)"}),
    ]

    verdict = await graded(*assertions)

    assert verdict.state == "passed"
    assert [result.score for result in verdict.assertions] == [1.0, 0.0, 1.0]


async def test_grade__R1_a_pattern_that_is_stopped_is_an_error_and_no_failure() -> None:
    hanging = case(Assertion(type="regex", value="^(?=(a+)+$)"), contains("a"))

    verdict = await grade(hanging, Answer(text="a" * 60 + "!"), None)

    assert verdict.state == "error"
    assert verdict.error is not None
    assert verdict.error.kind == "assertion"
    assert verdict.error.message == (
        "regex: the pattern '^(?=(a+)+$)' took longer than 1 s and was stopped, on an answer of 61 characters; make it "
        "simpler (no repeat inside a repeat), or say it with two assertions"
    )


async def test_grade__R5_a_schemas_pattern_that_is_stopped_is_an_error_and_no_failure() -> None:
    hanging = case(Assertion(type="is-json", value={"pattern": "^(?=(a+)+$)"}))

    verdict = await grade(hanging, Answer(text='"' + "a" * 60 + '!"'), None)

    assert verdict.error is not None
    assert verdict.error.message.startswith("is-json: the pattern '^(?=(a+)+$)' took longer than 1 s")


async def ticks_during(assertion: Assertion, text: str) -> int:
    """How often the event loop came round while the answer was judged."""
    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    counter = asyncio.create_task(count())
    await asyncio.sleep(0)
    before = ticks
    await grade(case(assertion), Answer(text=text), None)
    counter.cancel()
    return ticks - before


@pytest.mark.parametrize(
    ("assertion", "text"),
    [
        (Assertion(type="contains-json"), '{"a":' * 700),  # slow by kind
        (Assertion(type="word-count", value=1), "a " * 5_000),  # a long answer
        (Assertion(type="levenshtein", value="a" * 5_000), "b"),  # a long value
    ],
)
async def test_grade__R1_long_work_leaves_the_event_loop_free(assertion: Assertion, text: str) -> None:
    assert await ticks_during(assertion, text) > 1


async def test_grade__short_work_is_done_at_once() -> None:
    assert await ticks_during(contains(YES), "ok") == 0


async def test_grade__trial_that_is_cancelled_leaves_the_threads_to_others() -> None:
    slow, endless = Assertion(type="contains-json"), Answer(text='{"a":' * 700)
    clock = asyncio.get_running_loop().time
    await grade(case(slow), endless, None)  # what has to be loaded is loaded
    began = clock()
    await grade(case(slow), endless, None)
    one = clock() - began

    many = asyncio.gather(*(grade(case(*[slow] * 50), endless, None) for _ in range(4)))
    await asyncio.sleep(one)
    many.cancel()
    began = clock()
    result = await grade(case(Assertion(type="is-json")), Answer(text="{}"), None)

    assert result.state == "passed"
    assert clock() - began < 20 * one  # 200 of them would keep two threads busy for a hundred times as long as one
