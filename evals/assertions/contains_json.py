"""`contains-json`: a JSON object stands somewhere in the answer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

from evals.assertions import Answer, Judgement, assertion
from evals.assertions.is_json import read_schema
from evals.errors import CannotJudge
from evals.javascript import NotJson, parse_json_at
from evals.schemas import Schema
from evals.types import Assertion, JsonValue

# Nothing else follows the brace of an object. Most braces of program code are sorted out by this.
_OPENING = re.compile(r'\{(?=[ \t\r\n]*["}])')
_CPU_SECONDS = 0.4  # for an answer that is nothing but braces


@assertion("contains-json", check=read_schema, slow=True)
def contains_json(answer: Answer, spec: Assertion) -> Judgement:
    """A JSON object stands in the answer; with a JSON Schema (draft-07) in `value`, one that conforms to it."""
    schema = read_schema(spec)
    found = 0
    for value in _objects(answer.text, type_=spec.type):
        found += 1
        if schema is None or _conforms(value, schema, type_=spec.type):
            return Judgement(passed=True, score=1.0, reason=_reason(schema, fits=True))
    reason = _reason(schema, fits=False) if found else "the answer contains no JSON object"
    return Judgement(passed=False, score=0.0, reason=reason)


def _objects(text: str, *, type_: str) -> Iterator[JsonValue]:
    """The outermost objects, in order. Raises CannotJudge when the time is used up."""
    ends = time.thread_time() + _CPU_SECONDS
    opening = _OPENING.search(text)
    while opening:
        if time.thread_time() > ends:
            raise CannotJudge(f"{type_}: the answer holds too many braces that open nothing")
        try:
            value, end = parse_json_at(text, opening.start())
        except NotJson:
            end = opening.end()
        else:
            yield value
        opening = _OPENING.search(text, end)


def _conforms(value: JsonValue, schema: Schema, *, type_: str) -> bool:
    try:
        return schema.problem_with(value) is None
    except CannotJudge as error:
        raise CannotJudge(f"{type_}: {error.message}") from None


def _reason(schema: Schema | None, *, fits: bool) -> str:
    if schema is None:
        return "the answer contains a JSON object"
    return f"the answer contains {'a' if fits else 'no'} JSON object that conforms to the schema"
