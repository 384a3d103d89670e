"""`perplexity`: how sure the model was of its own words."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._likelihood import perplexity_of
from evals.assertions._values import refuse_value
from evals.javascript import number_text
from evals.types import Assertion


@assertion("perplexity", check=refuse_value)
def perplexity(answer: Answer, spec: Assertion) -> Judgement:
    """The answer's perplexity is at most `threshold` (any, when none is given)."""
    refuse_value(spec)
    value = perplexity_of(answer, spec)
    passed = spec.threshold is None or value <= spec.threshold
    limit = f" (at most {number_text(spec.threshold)})" if spec.threshold is not None else ""
    return Judgement(passed=passed, score=float(passed), reason=f"the answer's perplexity is {value:.4g}{limit}")
