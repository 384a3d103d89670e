"""JSON Schema, draft-07, strict, offline and bounded."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from evals.errors import CannotJudge, InvalidAssertion
from evals.schemas import compile_schema


@pytest.mark.parametrize(
    ("schema", "value", "problem"),
    [
        ({"type": "integer"}, 1.0, None),
        ({"type": "integer"}, True, "the value: must be integer"),
        ({"type": "number"}, float("inf"), "the value: must be number"),
        ({"type": ["string", "null"]}, 1, "the value: must be string or null"),
        ({"type": "string", "nullable": True}, None, None),
        ({"enum": ["yes", 1, None]}, 1.0, None),
        ({"enum": ["yes", 1, None]}, True, "the value: is none of the allowed values"),
        ({"const": {"a": [1]}}, {"a": [1.0]}, None),
        ({"uniqueItems": True}, [1, True, "1", [1]], None),
        ({"uniqueItems": True}, [{"a": 1, "b": 2}, {"b": 2.0, "a": 1}], "the value: holds an item twice"),
        ({"multipleOf": 0.1}, 1, None),
        ({"multipleOf": 0.1}, 0.35, "the value: must be a multiple of 0.1"),
        ({"multipleOf": 1e-300}, 1e20, "the value: must be a multiple of 1e-300"),
        ({"pattern": r"^\p{Lu}.$"}, "Ä😀", None),
        ({"pattern": r"^\d$"}, "\u0661", "the value: must match the pattern '^\\\\d$'"),
        ({"minLength": 2}, "😀", "the value: '😀' is too short"),
        ({"patternProperties": {"^s_": {"type": "string"}}}, {"s_a": 1}, "/s_a: must be string"),
        ({"patternProperties": {"^s_": {}}, "additionalProperties": False}, {"s_a": 1}, None),
        (
            {"properties": {"a": {}}, "additionalProperties": False},
            {"b": 1},
            "the value: must not have the property 'b'",
        ),
        ({"additionalProperties": {"type": "string"}}, {"b": 1}, "/b: must be string"),
        (
            {"items": [{"type": "number"}], "additionalItems": False},
            [1, 2],
            "the value: Additional items are not allowed (2 was unexpected)",
        ),
        ({"$defs": {"p": {"required": ["n"]}}, "$ref": "#/$defs/p"}, {}, "the value: 'n' is a required property"),
        ({"definitions": {"p": {}}, "$ref": "#/definitions/p", "type": "string"}, 1, "the value: must be string"),
        (
            {"$id": "http://a/b", "definitions": {"c": {"$id": "c", "type": "string"}}, "$ref": "c"},
            1,
            "the value: must be string",
        ),
        ({"properties": {"$ref": {"type": "string"}, "foo": {}}}, {"$ref": 1}, "/$ref: must be string"),
        ({"type": "object", "definitions": {"unused": {"unknown word": 1}}}, {}, None),
        (
            {"properties": {"next": {"$ref": "#"}}, "required": ["v"]},
            {"v": 1, "next": {}},
            "/next: 'v' is a required property",
        ),
        ("type: object\nrequired: [a]", {}, "the value: 'a' is a required property"),
        ('{"type": "object"}', [], "the value: must be object"),
        (True, 1, None),
    ],
)
def test_schema__what_conforms(schema: Any, value: Any, problem: str | None) -> None:
    assert compile_schema(schema).problem_with(value) == problem


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "wrong"}, "the JSON schema is not valid: /type:"),
        ({"required": ["a", "a"]}, "the JSON schema is not valid: /required: holds an item twice"),
        ({"pattern": "["}, "/pattern: must have the format regex"),
        ({"$schema": ["a"]}, "the JSON schema is not valid: /$schema"),
        ({"$schema": "https://json-schema.org/draft/2020-12/schema"}, "draft-07 is the one that is read"),
        (
            {"properties": {"a": {"requird": []}}},
            "schema/properties/a: unknown keyword 'requird' of JSON schema (draft-07); did you mean 'required'?",
        ),
        ({"items": [{"format": "emal"}]}, "schema/items/0: unknown format 'emal'; known are binary,"),
        ({"then": {}}, "schema: `then` and `else` need an `if`"),
        ({"if": {}}, "schema: `if` needs a `then` or an `else`"),
        ({"items": {}, "additionalItems": False}, "schema: `additionalItems` needs `items` that is a list"),
        ({"nullable": True}, "schema: `nullable` needs a `type`"),
        ({"enum": []}, "schema: `enum` holds no value"),
        ({"enum": [[1], "a", [1.0]]}, "schema: `enum` holds a value twice"),
        ({"properties": {"ab": {}}, "patternProperties": {"^a": {}}}, "property 'ab' also matches the pattern '^a'"),
        ({"definitions": {"p": {"foo": 1}}, "$ref": "#/definitions/p"}, "schema/$ref: unknown keyword 'foo'"),
        ([], "a JSON schema must be an object"),
        ("hello", "a JSON schema must be an object"),
        ("a: &x [1]\nb: *x", "cannot be read as JSON or YAML"),
        ({"$id": "http://["}, "the JSON schema"),
    ],
)
def test_schema__what_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        compile_schema(schema)

    assert said in str(caught.value)


@pytest.fixture
def visits() -> Iterator[tuple[str, list[object]]]:
    """The address of a server on the loopback, and who came to it."""
    came: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)

        def wait() -> None:
            try:
                came.append(server.accept())
            except TimeoutError:
                return

        thread = threading.Thread(target=wait)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/schema.json", came
        thread.join()


def test_schema__R4_remote_reference_is_refused_and_nothing_is_fetched(visits: tuple[str, list[object]]) -> None:
    address, came = visits

    with pytest.raises(InvalidAssertion, match="is not in this schema; nothing is fetched"):
        compile_schema({"properties": {"a": {"$ref": address}}})

    assert came == []


@pytest.mark.parametrize("reference", ["file:///etc/hosts", "#/definitions/missing", "#anchor", "other.json", "#/%25"])
def test_schema__R4_reference_to_elsewhere_is_refused(reference: str) -> None:
    with pytest.raises(InvalidAssertion, match="is not in this schema"):
        compile_schema({"$ref": reference})


def test_schema__R4_dynamic_references_are_unknown_words() -> None:
    with pytest.raises(InvalidAssertion, match=r"unknown keyword '\$dynamicRef'"):
        compile_schema({"properties": {"a": {"$dynamicRef": "#a"}}})


def test_schema__R5_pattern_that_hangs_other_engines_takes_no_time() -> None:
    schema = compile_schema({"pattern": "^(a+)+$", "patternProperties": {"(a+)+$": {"type": "string"}}})
    began = time.process_time()

    assert schema.problem_with("a" * 50_000 + "!") is not None
    assert schema.problem_with({"a" * 50_000 + "!": 1}) is None
    assert time.process_time() - began < 0.1


def test_schema__patterns_that_re2_cannot_run() -> None:
    schema = compile_schema({"patternProperties": {"^(?!x-)": {"pattern": "^(?=A)"}}, "additionalProperties": False})

    assert schema.problem_with({"a": "Abc"}) is None
    assert schema.problem_with({"a": "bc"}) == "/a: must match the pattern '^(?=A)'"
    assert schema.problem_with({"x-a": "Abc"}) == "the value: must not have the property 'x-a'"


def test_schema__R5_all_patterns_of_one_answer_have_one_second_together() -> None:
    schema = compile_schema({"items": {"anyOf": [{"pattern": "^(?=(a+)+$)"}, {"pattern": "^(?=(a+)+b$)"}]}})
    began = time.monotonic()

    with pytest.raises(CannotJudge, match=r"take too long|took longer than"):
        schema.problem_with(["a" * 60 + "!"] * 50)

    assert time.monotonic() - began < 10


LADDER = {f"s{i}": {"anyOf": [{"$ref": f"#/definitions/s{i + 1}"}] * 2} for i in range(40)}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"definitions": {**LADDER, "s40": False}, "$ref": "#/definitions/s0"}, 1),
        ({"$ref": "#"}, 1),
        (
            {
                "definitions": {"a": {"$ref": "#/definitions/b"}, "b": {"$ref": "#/definitions/a"}},
                "$ref": "#/definitions/a",
            },
            1,
        ),
    ],
)
def test_schema__R6_endless_schema_is_an_error_within_a_second(schema: Any, value: Any) -> None:
    began = time.process_time()

    with pytest.raises(CannotJudge):
        compile_schema(schema).problem_with(value)

    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"items": {"enum": list(range(9_000))}}, list(range(9_000))),
        ({"uniqueItems": True}, [[i] for i in range(50_000)]),
        ({"items": {"multipleOf": 1e-300}}, [1e300]),
    ],
)
def test_schema__R6_large_comparisons_are_bounded(schema: Any, value: Any) -> None:
    began = time.process_time()

    compile_schema(schema).problem_with(value)

    assert time.process_time() - began < 1


def test_schema__R6_a_million_values_are_refused() -> None:
    with pytest.raises(InvalidAssertion, match="10,000 values, nested 40 deep, are the most"):
        compile_schema({"enum": list(range(1_000_000))})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("date", ["2024-02-29", "0000-01-01"], ["2023-02-29", "24-1-1", "2024-13-01", "2024-01-01\n"]),
        (
            "time",
            ["12:00:00Z", "23:59:60Z", "12:00:00.5+09:30", "00:29:60+00:30"],
            ["12:00:00", "24:00:00Z", "12:00:60Z", "12:00:00+24:00"],
        ),
        ("date-time", ["2024-01-01T00:00:00Z", "2024-01-01 00:00:00+09:00"], ["2024-01-01", "2024-01-01T00:00:00"]),
        ("iso-time", ["12:00:00"], ["12:00"]),
        ("duration", ["P1D", "PT1H30M", "P2W"], ["P", "PT", "1D", "P1H"]),
        ("email", ["a.b+c@d-e.co"], ["a@b", "@b.co", "a..b@c.co", "a b@c.co"]),
        ("hostname", ["a.b", "localhost", "a.b."], ["-a", "a..b", "", "a_b"]),
        ("ipv4", ["1.2.3.4"], ["256.1.1.1", "1.2.3", "01.2.3.4"]),
        ("ipv6", ["::1", "2001:db8::1"], ["1::2::3", "fe80::1%eth0"]),
        (
            "uri",
            ["https://x.y/z?q#f", "urn:a:b", "mailto:a@b", "http://[::1]:80/"],
            ["x.y", "//x.y", "http://a b", "http://x/[", "http://[1]/", "urn:", "http:?q", 'http://a"b'],
        ),
        ("uri-reference", ["x.y", "/a?b#c", "", "#a", "1:2", 'a"b'], ["a b", "\\", "a[b"]),
        ("uri-template", ["/a/{b}{?c,d*}"], ["/a/{b", "{}", "{a.b}"]),
        (
            "url",
            ["https://x.yz/z", "ftp://a:b@xn-p.é-x.info:8080", "http://8.8.8.8/?q", "HTTPS://a@b@c.de/@"],
            [
                "https://x",
                "https://x.y/z",
                "x.yz",
                "mailto:a@b.co",
                "http://x.yz?q",
                "http://10.0.0.1/",
                "http://1.2.3.255",
                "http://x.yz:1",
                "http://-x.yz",
                "http://a..yz",
                "http://x.y2",
                "http://x.yz/a b",
                "http://@x.yz",
            ],
        ),
        (
            "uuid",
            ["123e4567-e89b-12d3-a456-426614174000", "urn:uuid:123E4567-e89b-12d3-a456-426614174000"],
            ["123", "123e4567e89b12d3a456426614174000"],
        ),
        ("regex", ["a+", "(?<=a)b", r"\p{L}", r"\-", "a]{"], ["[", "*", r"a\Z"]),
        ("json-pointer", ["", "/a~1b"], ["a", "/~2"]),
        ("json-pointer-uri-fragment", ["#", "#/a%20b"], ["/a", "#a"]),
        ("relative-json-pointer", ["0#", "1/a"], ["/a", "01"]),
        ("byte", ["aGk=", ""], ["aGk", "?", "AAAA=="]),
    ],
)
def test_formats__good_and_bad_texts(name: str, good: list[str], bad: list[str]) -> None:
    schema = compile_schema({"format": name})

    assert [text for text in good if schema.problem_with(text)] == []
    assert [text for text in bad if not schema.problem_with(text)] == []
    assert schema.problem_with(5) is None


def test_formats__numbers() -> None:
    assert compile_schema({"format": "int32"}).problem_with(2**31) == "the value: must have the format int32"
    assert compile_schema({"format": "int32"}).problem_with("text") is None
    assert compile_schema({"format": "int64"}).problem_with(1.5) == "the value: must have the format int64"
