"""`contains-json`: a JSON object stands somewhere in the answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator
from typing import TYPE_CHECKING

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._conformity import Conformity, judge_by, read_schema
from evals.javascript import NotJson, parse_json_at
from evals.types import Assertion, JsonValue

if TYPE_CHECKING:
    from evals.schemas import Schema

# Nothing else follows the brace of an object. Most braces of program code are sorted out by this.
_OPENING = re.compile(r'\{(?=[ \t\r\n]*["}])')


@assertion("contains-json", check=read_schema, slow=True)
def contains_json(answer: Answer, spec: Assertion) -> Judgement | Awaitable[Judgement]:
    """A JSON object stands in the answer; with a JSON Schema (draft-07) in `value`, one that conforms to it."""
    schema = read_schema(spec)
    return judge_by(lambda: _judge(answer.text, schema, spec), schema)


def _judge(text: str, schema: Schema | None, spec: Assertion) -> Judgement:
    conformity = Conformity(spec)
    found = False
    for value in _objects(text, conformity):
        found = True
        if schema is None or conformity.problem_with(value, schema) is None:
            return Judgement(passed=True, score=1.0, reason=_reason(schema, fits=True))
    reason = _reason(schema, fits=False) if found else "the answer contains no JSON object"
    return Judgement(passed=False, score=0.0, reason=reason)


def _objects(text: str, conformity: Conformity) -> Iterator[JsonValue]:
    """The outermost objects, in order. Raises CannotJudge when too many braces open nothing."""
    opening = _OPENING.search(text)
    while opening:
        conformity.step()
        try:
            value, end = parse_json_at(text, opening.start())
        except NotJson:
            end = opening.end()
        else:
            yield value
        opening = _OPENING.search(text, end)


def _reason(schema: Schema | None, *, fits: bool) -> str:
    if schema is None:
        return "the answer contains a JSON object"
    return f"the answer contains {'a' if fits else 'no'} JSON object that conforms to the schema"
