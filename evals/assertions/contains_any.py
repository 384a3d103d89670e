"""`contains-any`: at least one of several texts is somewhere in the answer."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_any
from evals.assertions._values import require_texts
from evals.types import Assertion


@assertion("contains-any", check=require_texts)
def contains_any(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains at least one of the texts in the list `value`."""
    return judge_any(answer.text, require_texts(spec))
