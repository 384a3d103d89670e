"""`contains-all`: every one of several texts is somewhere in the answer."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_all
from evals.assertions._values import require_texts
from evals.types import Assertion


@assertion("contains-all", check=require_texts)
def contains_all(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains every one of the texts in the list `value`."""
    return judge_all(answer.text, require_texts(spec))
