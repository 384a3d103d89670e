"""`icontains-any`: at least one of several texts is somewhere in the answer, whatever its case."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_any
from evals.assertions._values import require_texts
from evals.javascript import lower
from evals.types import Assertion


@assertion("icontains-any", check=require_texts)
def icontains_any(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains at least one of the texts in the list `value`, upper and lower case alike."""
    return judge_any(lower(answer.text), [lower(needle) for needle in require_texts(spec)])
