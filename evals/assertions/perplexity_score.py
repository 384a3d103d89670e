"""`perplexity-score`: how sure the model was of its own words, as a score."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._likelihood import perplexity_of
from evals.assertions._values import refuse_value
from evals.javascript import number_text
from evals.types import Assertion


@assertion("perplexity-score", check=refuse_value)
def perplexity_score(answer: Answer, spec: Assertion) -> Judgement:
    """1 / (1 + perplexity), the score, is at least `threshold` (any, when none is given)."""
    refuse_value(spec)
    score = 1 / (1 + perplexity_of(answer, spec))
    passed = spec.threshold is None or score >= spec.threshold
    limit = f" (at least {number_text(spec.threshold)})" if spec.threshold is not None else ""
    return Judgement(passed=passed, score=score, reason=f"the perplexity score is {score:.4g}{limit}")
