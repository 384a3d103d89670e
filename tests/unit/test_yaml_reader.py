"""YAML and strict JSON as data: what is read, on which line, and what is refused."""

from __future__ import annotations

import time
from typing import Any

import pytest

from evals.json_reader import InvalidText, read_json
from evals.yaml_reader import read_yaml


def test_yaml__core_schema_keeps_words_and_dates_as_text() -> None:
    document = read_yaml("a: no\nb: [yes, on, off, y]\nc: 2001-99-99\nd: 2024-01-31\ne: 12:30:45")

    assert document.value == {
        "a": "no", "b": ["yes", "on", "off", "y"], "c": "2001-99-99", "d": "2024-01-31", "e": "12:30:45",
    }  # fmt: skip


def test_yaml__numbers_and_booleans_are_those_of_yaml_1_2() -> None:
    document = read_yaml("[1, -2, 010, 0o17, 0x1F, 1e3, .5, 1_000, true, FALSE, null, ~, '1', !!str 2]")

    assert document.value == [1, -2, 10, 15, 31, 1000.0, 0.5, "1_000", True, False, None, None, "1", "2"]


def test_yaml__every_value_knows_its_line() -> None:
    document = read_yaml("tests:\n  - input: a\n\n  - input: b\n    assert:\n      - type: x\n")

    assert document.lines[("tests", 1, "input")] == 4
    assert document.lines[("tests", 1, "assert", 0, "type")] == 6
    assert document.line_of(("tests", 0, "missing")) == 2


def test_yaml__empty_text_is_nothing() -> None:
    assert read_yaml("# only a comment\n").value is None


def test_yaml__windows_line_ends_byte_order_mark_and_emoji_are_fine() -> None:
    assert read_yaml("\ufeffa: 😀\r\nb:\r\n  c: é\r\n".encode()).value == {"a": "😀", "b": {"c": "é"}}


ALIAS_BOMB = "a: &a [x, x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("a: !!python/object/apply:os.system ['x']", 1, "tag", id="I9 python object"),
        pytest.param("a: !!python/name:os.system", 1, "tag", id="I9 python name"),
        pytest.param("a: !!binary aGk=", 1, "tag", id="I9 any other tag"),
        pytest.param(ALIAS_BOMB, 1, "anchors", id="I10 alias bomb"),
        pytest.param("a: 1\nb: *a", 2, "aliases", id="I10 alias"),
        pytest.param("a: {b: 1}\n<<: {c: 1}", 2, "merge", id="I10 merge key"),
        pytest.param("[" * 3000, 1, "40 deep", id="I11 unclosed nesting"),
        pytest.param("[" * 3000 + "]" * 3000, 1, "40 deep", id="I11 nesting"),
        pytest.param("".join(f"{' ' * i}a:\n" for i in range(60)), 41, "40 deep", id="I11 block nesting"),
        pytest.param('a: 1\nb: 2\n"a": 3', 3, "stands twice", id="I12 duplicate key"),
        pytest.param("a: .inf", 1, "finite", id="I12 infinity"),
        pytest.param("a: -.INF", 1, "finite", id="I12 minus infinity"),
        pytest.param("a: .nan", 1, "finite", id="I12 no number"),
        pytest.param("a: 1e999", 1, "finite", id="I12 float that overflows"),
        pytest.param("a: 9223372036854775808", 1, "64 bits", id="I12 integer over 64 bits"),
        pytest.param("a: " + "9" * 5000, 1, "64 bits", id="I12 integer of 5000 digits"),
        pytest.param("a: 1\nb: x\0y", 2, "NUL", id="I12 NUL"),
        pytest.param('a: 1\nb: "x\\0y"', 2, "NUL", id="I12 escaped NUL"),
        pytest.param("a: \x1b[2J", 1, "001B", id="I12 control character"),
        pytest.param("a: {{name}}", 1, "quotes", id="unquoted template"),
        pytest.param("? [a]\n: b", 1, "plain text", id="list as a key"),
        pytest.param("a: 1\n---\nb: 1", 2, "more than one document", id="two documents"),
        pytest.param("a:\n  b: 1\n\tc: 2", 3, "not YAML", id="tab"),
        pytest.param("a: 'x", 1, "not YAML", id="open quote"),
    ],
)
def test_yaml__hostile_or_broken_text_is_refused_with_its_line(text: str, line: int, words: str) -> None:
    with pytest.raises(InvalidText, match=words) as caught:
        read_yaml(text)

    assert caught.value.line == line


def test_json__every_value_knows_its_line() -> None:
    document = read_json('{"a": [1,\n {"b": "x,{\\"",\n  "c": []}]}')

    assert document.value == {"a": [1, {"b": 'x,{"', "c": []}]}
    assert document.lines[("a", 1)] == 2
    assert document.lines[("a", 1, "c")] == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('{"a": 1,\n"a": 2}', "stands twice", id="I12 duplicate key"),
        pytest.param("[" * 2000 + "]" * 2000, "40 deep", id="I14 nesting 2000"),
        pytest.param("[" * 100_000, "40 deep", id="I14 nesting 100000"),
        pytest.param('["\\u0000"]', "NUL", id="I14 NUL"),
        pytest.param('{"\\u0000": 1}', "not plain text", id="I14 NUL in a key"),
        pytest.param('["\\ud800"]', "surrogate", id="I14 half a surrogate pair"),
        pytest.param("[9223372036854775808]", "64 bits", id="I14 integer over 64 bits"),
        pytest.param("[" + "9" * 5000 + "]", "64 bits", id="I14 integer of 5000 digits"),
        pytest.param("[1e999]", "finite", id="I14 float that overflows"),
        pytest.param("[NaN]", "NaN", id="NaN"),
        pytest.param("[-Infinity]", "Infinity", id="infinity"),
        pytest.param(b"[\xff]", "UTF-8", id="I14 invalid UTF-8"),
        pytest.param("{} {}", "not JSON", id="trailing data"),
        pytest.param("", "not JSON", id="empty"),
    ],
)
def test_json__hostile_or_broken_text_is_refused(text: str | bytes, words: str) -> None:
    with pytest.raises(InvalidText, match=words):
        read_json(text)


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_reader__I13_text_over_the_limit_is_refused(read: Any) -> None:
    with pytest.raises(InvalidText, match="1,000,000 bytes"):
        read('"' + "é" * 500_000 + '"')


@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_reader__I13_half_a_million_values_are_refused_soon(read: Any) -> None:
    started = time.process_time()

    with pytest.raises(InvalidText, match="100,000 values"):
        read("[" + "1," * 499_000 + "1]")

    assert time.process_time() - started < 3  # 0.6 s where this was written
