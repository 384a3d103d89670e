"""`is-json`: the whole answer is JSON, and conforms to a schema if there is one."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._conformity import judge_by, read_schema
from evals.errors import CannotJudge
from evals.javascript import NotJson, parse_json
from evals.types import Assertion, JsonValue

if TYPE_CHECKING:
    from evals.schemas import Schema


@assertion("is-json", check=read_schema, slow=True)
def is_json(answer: Answer, spec: Assertion) -> Judgement | Awaitable[Judgement]:
    """The whole answer is JSON; with a JSON Schema (draft-07) in `value`, it conforms to that."""
    try:
        value = parse_json(answer.text)
    except NotJson as error:
        return Judgement(passed=False, score=0.0, reason=f"the answer is not JSON: {error}")
    schema = read_schema(spec)
    if schema is None:
        return Judgement(passed=True, score=1.0, reason="the answer is JSON")
    return judge_by(lambda: _judgement(schema, value, spec), schema)


def _judgement(schema: Schema, value: JsonValue, spec: Assertion) -> Judgement:
    try:
        problem = schema.problem_with(value)
    except CannotJudge as error:
        raise CannotJudge(f"{spec.type}: {error.message}") from None
    if problem:
        return Judgement(passed=False, score=0.0, reason=f"the answer does not conform to the schema: {problem}")
    return Judgement(passed=True, score=1.0, reason="the answer is JSON that conforms to the schema")
