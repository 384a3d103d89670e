"""`icontains`: a text is somewhere in the answer, whatever its case."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_one
from evals.assertions._values import require_text_or_number
from evals.javascript import lower
from evals.types import Assertion


@assertion("icontains", check=require_text_or_number)
def icontains(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains the text or number `value`, upper and lower case alike."""
    needle = require_text_or_number(spec)
    return judge_one(lower(answer.text), lower(needle), shown=needle)
