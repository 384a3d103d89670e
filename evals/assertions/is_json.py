"""`is-json`: the whole answer is JSON, and conforms to a schema if there is one."""

from __future__ import annotations

from collections.abc import Awaitable

from msgspec import UNSET

from evals.assertions import Answer, Judgement, assertion
from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import NotJson, parse_json
from evals.killable import off_the_loop
from evals.schemas import Schema, compile_schema
from evals.types import Assertion, JsonValue


def read_schema(spec: Assertion) -> Schema | None:
    """The schema in the value, None without one. Raises InvalidAssertion."""
    if spec.value is UNSET or spec.value is None or spec.value == "":
        return None
    if not isinstance(spec.value, dict | str):
        raise InvalidAssertion(f"{spec.type}: `value` must be a JSON schema: an object, or a text of JSON or YAML")
    try:
        return compile_schema(spec.value)
    except InvalidAssertion as error:
        raise InvalidAssertion(f"{spec.type}: {error.message}") from None


@assertion("is-json", check=read_schema)
def is_json(answer: Answer, spec: Assertion) -> Judgement | Awaitable[Judgement]:
    """The whole answer is JSON; with a JSON Schema (draft-07) in `value`, it conforms to that."""
    try:
        value = parse_json(answer.text)
    except NotJson as error:
        return Judgement(passed=False, score=0.0, reason=f"the answer is not JSON: {error}")
    schema = read_schema(spec)
    if schema is None:
        return Judgement(passed=True, score=1.0, reason="the answer is JSON")
    if schema.is_linear:
        return _judgement(schema, value, spec)
    return off_the_loop(lambda: _judgement(schema, value, spec))


def _judgement(schema: Schema, value: JsonValue, spec: Assertion) -> Judgement:
    try:
        problem = schema.problem_with(value)
    except CannotJudge as error:
        raise CannotJudge(f"{spec.type}: {error.message}") from None
    if problem:
        return Judgement(passed=False, score=0.0, reason=f"the answer does not conform to the schema: {problem}")
    return Judgement(passed=True, score=1.0, reason="the answer is JSON that conforms to the schema")
