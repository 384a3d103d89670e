"""`model-graded-closedqa`: a judge model says yes or no to one criterion."""

from __future__ import annotations

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, reason_of
from evals.assertions._values import require_text
from evals.types import Assertion

_TASK = Task(
    "You say whether the answer of another system to a question meets one criterion.",
    '{"reason": a sentence that goes through the criterion step by step, "pass": true if it is met, else false}',
    {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "pass": {"type": "boolean"}},
        "required": ["reason", "pass"],
    },
)


class _Opinion(msgspec.Struct):
    passed: bool = msgspec.field(name="pass")
    reason: str


@assertion("model-graded-closedqa", check=require_text, graded=True)
async def model_graded_closedqa(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """A judge model says yes to the question whether the answer meets the criterion `value`."""
    parts = (
        Part("Criterion", require_text(spec), quoted=False),
        Part("Question", answer.question),
        Part("Answer to grade", answer.text),
    )
    opinion = await ask_judge(judge, _TASK, parts, spec, answer=answer, kind=_Opinion)
    said = "the criterion is met" if opinion.passed else "the criterion is not met"
    return Judgement(
        passed=opinion.passed, score=float(opinion.passed), reason=reason_of(opinion.reason, otherwise=said)
    )
