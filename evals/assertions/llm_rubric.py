"""`llm-rubric`: a judge model says whether the answer does what a sentence asks for."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, reason_of, unusable
from evals.assertions._values import require_text
from evals.types import Assertion

OPINION_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pass": {"type": "boolean"},
        "score": {"type": "number", "minimum": 0, "maximum": 1},
        "reason": {"type": "string"},
    },
    "required": ["pass", "score", "reason"],
}

_TASK = Task(
    "You grade the answer of another system against a rubric, and say whether it meets the rubric.",
    '{"pass": true or false, "score": 0 (does not meet it at all) to 1 (meets it fully), "reason": a sentence}',
    OPINION_SCHEMA,
)


class _Opinion(msgspec.Struct):
    passed: bool = msgspec.field(name="pass")
    score: float
    reason: str


@assertion("llm-rubric", check=require_text, graded=True)
async def llm_rubric(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """A judge model finds that the answer meets the rubric `value`, with a score of at least `threshold`."""
    parts = [Part("Rubric", require_text(spec), quoted=False)]
    if answer.question:
        parts.append(Part("Question", answer.question))
    parts.append(Part("Answer to grade", answer.text))
    opinion = await ask_judge(judge, _TASK, parts, spec, answer=answer, kind=_Opinion)
    if not (math.isfinite(opinion.score) and 0 <= opinion.score <= 1):
        raise unusable()
    enough = spec.threshold is None or opinion.score >= spec.threshold
    return Judgement(
        passed=opinion.passed and enough,
        score=opinion.score,
        reason=reason_of(opinion.reason, otherwise=f"the judge gave {opinion.score:g} and no reason"),
    )
