"""What `perplexity` and `perplexity-score` share."""

from __future__ import annotations

import math

from evals.assertions import Answer
from evals.errors import CannotJudge
from evals.types import Assertion


def perplexity_of(answer: Answer, spec: Assertion) -> float:
    """exp of the mean negative log probability. Raises CannotJudge when the provider gave none."""
    logprobs = answer.completion.logprobs if answer.completion else None
    if not logprobs:
        raise CannotJudge(f"{spec.type}: the provider gave no log probabilities; ask for them or use another model")
    try:
        return math.exp(-sum(logprobs) / len(logprobs))
    except OverflowError:
        return math.inf
