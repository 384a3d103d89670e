"""`cost`: the answer cost at most so much."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import refuse_value, require_threshold
from evals.errors import CannotJudge
from evals.javascript import number_text
from evals.types import Assertion, Completion


def require_limit(spec: Assertion) -> float:
    """The limit in USD. Raises InvalidAssertion."""
    refuse_value(spec)
    return require_threshold(spec)


@assertion("cost", check=require_limit)
def cost(answer: Answer, spec: Assertion) -> Judgement:
    """The answer cost at most `threshold` USD; an unknown price is an error, never free."""
    limit = require_limit(spec)
    spent = _cost_usd(answer.completion)
    if spent is None:
        raise CannotJudge(f"{spec.type}: the model's price is not known, so neither is the cost of the answer")
    passed = spent <= limit
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer cost {number_text(spent)} USD (at most {number_text(limit)} USD)",
    )


def _cost_usd(completion: Completion | None) -> float | None:
    """What the call of the model cost. A kept answer is judged by its own: free would pass every limit."""
    if completion is None:
        return None
    if completion.cache is not None and completion.cache.state == "hit":
        return completion.cache.saved_usd
    return completion.cost_usd
