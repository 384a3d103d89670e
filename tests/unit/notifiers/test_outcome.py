"""The outcome as notifiers read it: equal to the engine's, and tolerant of older and newer services."""

from __future__ import annotations

import dataclasses
import json
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import jsonschema
import msgspec
import pytest

from evals.outcome import Outcome as EngineOutcome
from evals.outcome import build_outcome
from evals.outcome_schema import outcome_schema
from evals.types import AssertionResult, Case, Completion, Message, Suite, Trial, TrialError
from notifiers import InvalidOutcome, _outcome, read_outcome

SCHEMA_FILE = Path(_outcome.__file__).parent / "outcome.schema.json"
SCHEMA = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))


def an_engine_outcome() -> EngineOutcome:
    cases = tuple(
        Case(title=title, messages=(Message("user", "Hi"),), repeat=repeat)
        for title, repeat in (("greets", 1), ("thanks", 2), ("never runs", 1))
    )
    answer = Completion(text="hello", answered_by="gpt-4o-1", input_tokens=3, output_tokens=4, cost_usd=0.001)
    result = AssertionResult(type="contains", passed=True, score=1.0, reason="it does", metric="tone")
    trials = [
        Trial(case_index=0, model="gpt-4o", repeat_index=0, state="passed", score=1.0, completion=answer,
              assertions=(result,), named_scores={"tone": 1.0}, duration_ms=5),
        Trial(case_index=1, model="gpt-4o", repeat_index=0, state="passed", score=1.0, completion=answer),
        Trial(case_index=1, model="gpt-4o", repeat_index=1, state="error",
              error=TrialError(kind="provider", message="no answer")),
    ]  # fmt: skip
    return build_outcome(Suite(cases=cases), ["gpt-4o"], trials, total_duration_ms=10, engine_version="1")


def test_outcome__reads_what_the_engine_writes() -> None:
    written = msgspec.json.encode(an_engine_outcome())

    outcome = read_outcome(written)

    assert [row.state for row in outcome.test_cases] == ["passed", "error", "skipped"]
    assert outcome.test_cases[0].assertions[0].metric == "tone"
    assert outcome.test_cases[0].named_scores == {"tone": 1.0}
    assert outcome.test_cases[1].trials is not None
    assert outcome.test_cases[1].trials[1].error == _outcome.TrialError(kind="provider", message="no answer")
    assert outcome.summary.conclusion == "inconclusive"
    jsonschema.validate(json.loads(written), SCHEMA)


def test_outcome_schema__is_the_file() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == outcome_schema(), (
        "run: python -m evals.outcome_schema > notifiers/outcome.schema.json"
    )


def described_names(name: str = "Outcome") -> set[str]:
    """The objects of the schema that notifiers read: all that `name` holds, but for what they leave as it comes."""
    hints = get_type_hints(getattr(_outcome, name))
    properties = SCHEMA["$defs"][name]["properties"]
    held = {
        schema_type(part).removeprefix("list of ") for field, part in properties.items() if not is_opaque(hints[field])
    }
    return {name}.union(*(described_names(inner) for inner in held & set(SCHEMA["$defs"])))


def is_opaque(hint: Any) -> bool:
    return any(get_args(part)[1:] == (Any,) for part in get_args(hint))


def test_outcome__dataclasses_and_schema_are_equal() -> None:
    """The schema is the Struct's, so all three are."""
    for name in sorted(described_names()):
        described = SCHEMA["$defs"][name]
        kind = getattr(_outcome, name)
        hints = get_type_hints(kind)

        assert set(described["properties"]) == set(hints), f"notifiers/_outcome.py, {name}"
        required = {one.name for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING}
        assert required == set(described.get("required", [])), name
        assert {field: json_type(hint) for field, hint in hints.items() if not is_opaque(hint)} == {
            field: schema_type(part) for field, part in described["properties"].items() if not is_opaque(hints[field])
        }, name


def test_outcome__every_dataclass_is_in_the_schema() -> None:
    kinds = {name for name, kind in vars(_outcome).items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)}

    assert kinds == described_names()


def json_type(hint: Any) -> str:
    """The JSON type of a field of a dataclass, as `schema_type` words it."""
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not type(None))
    if dataclasses.is_dataclass(hint):
        return str(getattr(hint, "__name__", ""))
    if get_origin(hint) is tuple:
        return f"list of {json_type(get_args(hint)[0])}"
    if get_origin(hint) is Mapping:
        return f"object of {json_type(get_args(hint)[1])}"
    return {str: "string", bool: "boolean", int: "integer", float: "number"}[hint]


def schema_type(part: dict[str, Any]) -> str:
    """The same of a property of the schema; null stands for a field that is left out."""
    if "anyOf" in part:
        part = next(one for one in part["anyOf"] if one.get("type") != "null")
    if "$ref" in part:
        return str(part["$ref"]).rpartition("/")[2]
    if "enum" in part:
        return "string"
    if part["type"] == "array":
        return f"list of {schema_type(part['items'])}"
    if part["type"] == "object":
        return f"object of {schema_type(part['additionalProperties'])}"
    return str(part["type"])


def test_outcome__fields_that_are_not_known_are_ignored() -> None:
    document = json.loads(msgspec.json.encode(an_engine_outcome()))
    document["later"] = {"x": 1}
    document["test_cases"][0]["later"] = [1]

    assert read_outcome(document) == read_outcome(msgspec.json.encode(an_engine_outcome()))


def test_outcome__comparison_and_cache_are_read_where_they_are() -> None:
    document = json.loads(msgspec.json.encode(an_engine_outcome()))
    rate = {"passed": 29, "total": 30, "low": 0.8, "high": 0.99}
    document["test_cases"][0] |= {
        "change": {"status": "regressed", "rule": "regression", "baseline": rate, "p_value": 0.0002},
        "cache": {"state": "hit", "reason": "asked before"},
        "quarantined": True,
    }
    document["summary"] |= {"cached": True, "trials_cached": 3}
    counts = {"regressed": 1, "fixed": 0, "flaky": 0, "stable": 0, "not_enough_data": 0}
    document["comparison"] = {
        "rule": "regressions",
        "rows": counts,
        "baseline_trials": 30,
        "rerun_trials": 7,
        "removed": [{"title": "a", "model": "b"}],
    }

    outcome = read_outcome(document)

    row = outcome.test_cases[0]
    assert row.change is not None
    assert (row.change.status, row.change.p_value) == ("regressed", 0.0002)
    assert row.change.baseline == _outcome.Rate(passed=29, total=30, low=0.8, high=0.99)
    assert row.quarantined is True
    assert outcome.comparison is not None
    assert outcome.comparison.removed == (_outcome.RowKey(title="a", model="b"),)
    assert outcome.summary.trials_cached == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_cases": None}, "outcome.test_cases is missing"),
        ({"test_cases": {}}, "outcome.test_cases: a list is expected"),
        ({"test_cases": [1]}, r"outcome.test_cases\[0\]: an object is expected"),
        ({"summary": []}, "outcome.summary: an object is expected"),
        ({"engine_version": 1}, "outcome.engine_version: text is expected"),
        ({"summary": {"overall_score": True}}, "outcome.summary.total_tests is missing"),
    ],
)
def test_outcome__what_is_none_says_where(change: dict[str, Any], message: str) -> None:
    document = json.loads(msgspec.json.encode(an_engine_outcome())) | change

    with pytest.raises(InvalidOutcome, match=message):
        read_outcome(document)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 200_000, b"[]", b"1", b"null", b'"x"'])
def test_outcome__I14_odd_json_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidOutcome):
        read_outcome(text)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999", "1" + "0" * 400, "true", '"1"'])
def test_outcome__I14_odd_numbers_are_refused(number: str) -> None:
    text = msgspec.json.encode(an_engine_outcome()).decode()
    assert '"overall_score":1.0' in text

    with pytest.raises(InvalidOutcome, match="overall_score"):
        read_outcome(text.replace('"overall_score":1.0', f'"overall_score":{number}'))
