"""`equals`: the answer is exactly this text or number, or the same JSON."""

from __future__ import annotations

from msgspec import UNSET

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted
from evals.errors import InvalidAssertion
from evals.javascript import NotJson, equal, json_text, parse_json, text_of
from evals.types import Assertion, JsonValue


def require_value(spec: Assertion) -> JsonValue:
    """The value, anything that JSON can hold. Raises InvalidAssertion when none is given."""
    if spec.value is UNSET:
        raise InvalidAssertion(f"{spec.type}: `value` is missing")
    return spec.value


@assertion("equals", check=require_value)
def equals(answer: Answer, spec: Assertion) -> Judgement:
    """The answer is exactly `value`; an object, a list or null is compared as JSON, whatever its layout."""
    value = require_value(spec)
    if value is None or isinstance(value, dict | list | tuple):
        passed, shown = _is_same_json(answer.text, value), json_text(value)
    else:
        shown = text_of(value)
        passed = answer.text == shown
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer {'equals' if passed else 'does not equal'} {quoted(shown)}",
    )


def _is_same_json(text: str, value: JsonValue) -> bool:
    try:
        return equal(parse_json(text), list(value) if isinstance(value, tuple) else value)
    except NotJson:
        return False
