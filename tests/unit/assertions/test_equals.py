"""equals and is-json without a schema."""

from __future__ import annotations

from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import InvalidAssertion
from evals.types import Assertion


def judged(type_: str, text: str, **fields: Any) -> Judgement:
    return ASSERTIONS[type_].judge(Answer(text=text), Assertion(type=type_, **fields))


@pytest.mark.parametrize(
    ("value", "text", "passed"),
    [
        ("Paris", "Paris", True),
        ("Paris", "Paris ", False),
        ("Paris", "paris", False),
        (1.0, "1", True),
        (1e21, "1e+21", True),
        (True, "true", True),
        (True, "1", False),
        (0, "-0", False),
        (None, " null ", True),
        ({"a": 1, "b": [1, 2]}, ' {"b": [1, 2.0], "a": 1e0} ', True),
        ({"a": 1}, '{"a": true}', False),
        ({"a": 0}, '{"a": -0}', False),
        ([1, 2], "[2, 1]", False),
        ([], "{}", False),
        ({}, "not JSON", False),
        ({}, "\ufeff{}", False),
        (9007199254740993, "9007199254740992", True),
    ],
)
def test_equals__as_javascript_compares(value: Any, text: str, passed: bool) -> None:
    assert judged("equals", text, value=value).passed is passed


def test_equals__value_is_missing() -> None:
    with pytest.raises(InvalidAssertion, match=r"^equals: `value` is missing$"):
        judged("equals", "x")


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        (' {"a": 1} \n', True),
        ('"text"', True),
        ('{"a": 1, "a": 2}', True),
        ("1e400", True),
        ("\ufeff{}", False),
        ("\u00a0{}", False),
        ("NaN", False),
        ("[-Infinity]", False),
        ("[1,]", False),
        ("01", False),
        ("// c\n1", False),
        ("{} {}", False),
        ("", False),
        ("[" * 100_000 + "]" * 100_000, False),  # no reader that recurses could hold it
        ("1" * 100_000, True),
    ],
)
def test_is_json__whole_answer_and_strict(text: str, passed: bool) -> None:
    assert judged("is-json", text).passed is passed
