"""How JavaScript writes, reads and compares values."""

from __future__ import annotations

from typing import Any

import pytest

from evals.javascript import WHITESPACE, NotJson, equal, json_text, number_text, parse_json, text_of, utf16_units, words


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (0.1, "0.1"),
        (123.456, "123.456"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (-1.5e300, "-1.5e+300"),
        (1e-6, "0.000001"),
        (1.234e-7, "1.234e-7"),
        (5e-324, "5e-324"),
        (1e16, "10000000000000000"),
        (12345678901234567890, "12345678901234567000"),
        (10**400, "Infinity"),
        (float("nan"), "NaN"),
        (-float("inf"), "-Infinity"),
    ],
)
def test_number_text__as_javascript_writes_it(number: float, text: str) -> None:
    assert number_text(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [("a", "a"), (None, "null"), (True, "true"), ([1.0, None, [2, "x"]], "1,,2,x"), ({"a": 1}, "[object Object]")],
)
def test_text_of__as_string_gives_it(value: Any, text: str) -> None:
    assert text_of(value) == text


def test_json_text__index_keys_first_and_half_pairs_escaped() -> None:
    value = {"b": 1.0, "10": None, "2": float("inf"), "é": ["\ud83d", "😀\n", True]}

    assert json_text(value) == r'{"2":null,"10":null,"b":1,"é":["\ud83d","😀\n",true]}'


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (0, False, False),
        (0, -0.0, False),
        ("1", 1, False),
        (None, False, False),
        ({"a": [1]}, {"a": [1.0]}, True),
        ({"a": None}, {}, False),
        ([], {}, False),
        ([1], [1, 2], False),
    ],
)
def test_equal__deep_and_strict(left: Any, right: Any, same: bool) -> None:
    assert equal(left, right) is same
    assert equal(right, left) is same


def test_parse_json__large_numbers_are_doubles() -> None:
    assert parse_json("[9007199254740993, -0, 1e999]") == [9007199254740992.0, 0.0, float("inf")]
    with pytest.raises(NotJson, match=r"^NaN is not a JSON number$"):
        parse_json("NaN")


def test_words__each_white_space_and_what_python_takes_for_it() -> None:
    for point in [*range(0x3100), 0xFEFF]:
        space = chr(point)
        assert words(f"a{space}b") == (["a", "b"] if space in WHITESPACE else [f"a{space}b"]), hex(point)


def test_words_and_units__as_javascript_counts() -> None:
    assert words(" a\ufeffb\u3000c\u0085d\u001ce ") == ["a", "b", "c\u0085d\u001ce"]
    assert utf16_units("a😀") == [0x61, 0xD83D, 0xDE00]
