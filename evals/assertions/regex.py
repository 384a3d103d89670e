"""`regex`: a JavaScript pattern is found in the answer."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted, require_text
from evals.errors import InvalidAssertion
from evals.patterns import Pattern, compile_pattern
from evals.types import Assertion


def require_pattern(spec: Assertion) -> Pattern:
    """The value as a pattern. Raises InvalidAssertion that says what to change."""
    try:
        return compile_pattern(require_text(spec))
    except InvalidAssertion as error:
        prefix = f"{spec.type}: "
        raise InvalidAssertion(prefix + error.message.removeprefix(prefix)) from None


@assertion("regex", check=require_pattern)
def regex(answer: Answer, spec: Assertion) -> Judgement:
    """The JavaScript pattern `value` (no flags) matches somewhere in the answer."""
    pattern = require_pattern(spec)
    passed = pattern.search(answer.text)
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer {'matches' if passed else 'does not match'} the pattern {quoted(pattern.source)}",
    )
