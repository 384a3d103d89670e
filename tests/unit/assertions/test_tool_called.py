"""tool-called: which tool, with which arguments, how often."""

from __future__ import annotations

from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import InvalidAssertion
from evals.types import Assertion, Completion, ToolCall

ADD = ToolCall("mcp__calculator__add", '{"a": 2, "b": 3, "exact": true}')
READ = ToolCall("Read", '{"file_path": "/project/a.md"}')
REFUSED = ToolCall("Bash", '{"command": "env"}', failed=True, refused=True)


def judged(value: Any, *calls: ToolCall, text: str = "5") -> Judgement:
    completion = Completion(text=text, answered_by="m", tool_calls=calls)
    answer = Answer(text=text, completion=completion)
    judgement: Judgement = ASSERTIONS["tool-called"].judge(answer, Assertion(type="tool-called", value=value))  # type: ignore[assignment, call-arg]  # this one is neither async nor graded
    return judgement


@pytest.mark.parametrize(
    ("value", "passes"),
    [
        ("Read", True),
        ("Write", False),
        ({"name": "Read", "max": 0}, False),
        ({"name": "Write", "max": 0}, True),
        ({"name": "Read", "min": 2}, False),
        ({"name": "Read", "min": 1, "max": 1}, True),
        ({"name": "mcp__calculator__add", "arguments": {"a": 2}}, True),
        ({"name": "mcp__calculator__add", "arguments": {"a": 2, "b": 4}}, False),
        ({"name": "mcp__calculator__add", "arguments": {"exact": 1}}, False),
        ({"name": "mcp__calculator__add", "arguments": {"c": None}}, False),
        ("Bash", False),
        ({"name": "Bash", "max": 0}, True),
    ],
)
def test_tool_called__by_name_arguments_and_count(value: Any, passes: bool) -> None:
    assert judged(value, ADD, READ, REFUSED).passed is passes


def test_tool_called__says_what_was_called_and_what_was_refused() -> None:
    assert judged("Write", ADD, READ, READ, REFUSED).reason == (
        "Write was called 0 times (expected at least 1); tools that were called: Read, mcp__calculator__add; 1 refused"
    )


def test_tool_called__finds_calls_that_an_answer_spells() -> None:
    assert judged("add", text='{"type": "tool_use", "name": "add", "input": {}}').passed
    assert not judged("add", text="I would call add").passed


@pytest.mark.parametrize("arguments", ["nonsense", "[1]", "[" * 100_000, ""])
def test_tool_called__arguments_that_are_no_object_fit_nothing(arguments: str) -> None:
    assert not judged({"name": "f", "arguments": {"a": 1}}, ToolCall("f", arguments)).passed


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (7, "must be a tool's name"),
        ({"arguments": {}}, "must be a tool's name"),
        ({"name": "f", "times": 1}, "knows name, arguments, min, max, not times"),
        ({"name": "f", "arguments": []}, "`arguments` must be an object"),
        ({"name": "f", "min": -1}, "`min` must be a whole number"),
        ({"name": "f", "max": True}, "`max` must be a whole number"),
        ({"name": "f", "min": 2, "max": 1}, "`min` must not be larger than `max`"),
    ],
)
def test_tool_called__values_that_mean_nothing_are_refused(value: Any, sentence: str) -> None:
    with pytest.raises(InvalidAssertion, match=sentence):
        judged(value)
