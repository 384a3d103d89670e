"""`starts-with`: the answer begins with a text."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted, require_text
from evals.types import Assertion


@assertion("starts-with", check=require_text)
def starts_with(answer: Answer, spec: Assertion) -> Judgement:
    """The answer begins with the text `value`; white space counts."""
    prefix = require_text(spec)
    passed = answer.text.startswith(prefix)
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer {'starts' if passed else 'does not start'} with {quoted(prefix)}",
    )
