"""`finish-reason`: the model stopped for a reason, such as `stop` or `length`."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted
from evals.errors import InvalidAssertion
from evals.javascript import lower
from evals.types import Assertion


def require_reason(spec: Assertion) -> str:
    """The reason to compare with; an empty one is none that a provider gives. Raises InvalidAssertion."""
    if not isinstance(spec.value, str):
        raise InvalidAssertion(f"{spec.type}: `value` must be a text, such as stop or length")
    return spec.value


@assertion("finish-reason", check=require_reason)
def finish_reason(answer: Answer, spec: Assertion) -> Judgement:
    """The provider says that the model stopped because of `value`, upper and lower case alike."""
    wanted = require_reason(spec)
    given = answer.completion.finish_reason if answer.completion else None
    passed = bool(given) and lower(given or "") == lower(wanted)
    said = f"the model stopped because of {quoted(given)}" if given else "the provider gave no reason for stopping"
    return Judgement(passed=passed, score=float(passed), reason=f"{said} (asked for {quoted(wanted)})")
