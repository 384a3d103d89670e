"""`icontains-all`: every one of several texts is somewhere in the answer, whatever its case."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_all
from evals.assertions._values import require_texts
from evals.javascript import lower
from evals.types import Assertion


@assertion("icontains-all", check=require_texts)
def icontains_all(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains every one of the texts in the list `value`, upper and lower case alike."""
    return judge_all(lower(answer.text), [lower(needle) for needle in require_texts(spec)])
