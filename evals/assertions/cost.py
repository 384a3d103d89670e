"""`cost`: the answer cost at most so much."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import refuse_value, require_threshold
from evals.errors import CannotJudge
from evals.javascript import number_text
from evals.types import Assertion


def require_limit(spec: Assertion) -> float:
    """The limit in USD. Raises InvalidAssertion."""
    refuse_value(spec)
    return require_threshold(spec)


@assertion("cost", check=require_limit)
def cost(answer: Answer, spec: Assertion) -> Judgement:
    """The answer cost at most `threshold` USD; an unknown price is an error, never free."""
    limit = require_limit(spec)
    spent = answer.completion.cost_usd if answer.completion else None
    if spent is None:
        raise CannotJudge(f"{spec.type}: the model's price is not known, so neither is the cost of the answer")
    passed = spent <= limit
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer cost {number_text(spent)} USD (at most {number_text(limit)} USD)",
    )
