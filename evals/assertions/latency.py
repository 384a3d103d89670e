"""`latency`: the answer came within a time."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import refuse_value, require_threshold
from evals.errors import CannotJudge
from evals.javascript import number_text
from evals.types import Assertion


def require_limit(spec: Assertion) -> float:
    """The limit in milliseconds. Raises InvalidAssertion."""
    refuse_value(spec)
    return require_threshold(spec)


@assertion("latency", check=require_limit, needs_fresh=True)
def latency(answer: Answer, spec: Assertion) -> Judgement:
    """The model took at most `threshold` milliseconds."""
    limit = require_limit(spec)
    if answer.completion is None:
        raise CannotJudge(f"{spec.type}: it is not known how long the answer took")
    if answer.completion.is_cached:
        raise CannotJudge(f"{spec.type}: the answer comes from the cache, so it took no time; run without the cache")
    passed = answer.completion.duration_ms <= limit
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer took {answer.completion.duration_ms} ms (at most {number_text(limit)} ms)",
    )
