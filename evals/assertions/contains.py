"""`contains`: a text is somewhere in the answer."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._containment import judge_one
from evals.assertions._values import require_text_or_number
from evals.types import Assertion


@assertion("contains", check=require_text_or_number)
def contains(answer: Answer, spec: Assertion) -> Judgement:
    """The answer contains the text or number `value`."""
    needle = require_text_or_number(spec)
    return judge_one(answer.text, needle, shown=needle)
