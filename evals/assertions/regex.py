"""`regex`: a JavaScript pattern is found in the answer."""

from __future__ import annotations

from collections.abc import Awaitable

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted, require_text
from evals.errors import CannotJudge, InvalidAssertion
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
def regex(answer: Answer, spec: Assertion) -> Judgement | Awaitable[Judgement]:
    """The JavaScript pattern `value` (no flags) matches somewhere in the answer."""
    pattern = require_pattern(spec)
    if pattern.is_linear_on(answer.text):
        return _judgement(pattern, found=pattern.search(answer.text))
    return _judge_elsewhere(pattern, answer, spec)


async def _judge_elsewhere(pattern: Pattern, answer: Answer, spec: Assertion) -> Judgement:
    try:
        return _judgement(pattern, found=await pattern.find(answer.text))
    except CannotJudge as error:
        raise CannotJudge(f"{spec.type}: {error.message}") from None


def _judgement(pattern: Pattern, *, found: bool) -> Judgement:
    # As its author wrote it: each backslash once.
    shown = quoted(pattern.source).replace("\\\\", "\\")
    return Judgement(
        passed=found,
        score=float(found),
        reason=f"the answer {'matches' if found else 'does not match'} the pattern {shown}",
    )
