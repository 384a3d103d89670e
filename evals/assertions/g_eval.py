"""`g-eval`: a judge model makes steps out of criteria, goes through them, and gives a mark from 0 to 10."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, reaches, reason_of, texts_of
from evals.types import Assertion

DEFAULT_THRESHOLD: Final = 0.7

_TASK = Task(
    "You mark the answer of another system by a criterion. First make 3 or 4 short steps of the criterion, by which "
    "an answer can be marked; then go through them.",
    '{"steps": [texts], "reason": a sentence, "score": a whole number from 0 (not at all) to 10 (in every way)}',
    {
        "type": "object",
        "properties": {
            "steps": {"type": "array", "items": {"type": "string"}},
            "reason": {"type": "string"},
            "score": {"type": "integer", "minimum": 0, "maximum": 10},
        },
        "required": ["steps", "reason", "score"],
    },
)


class _Opinion(msgspec.Struct):
    score: float  # 7.0 is a whole number too, in JSON
    reason: str


@assertion("g-eval", check=texts_of, graded=True)
async def g_eval(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """A judge model marks the answer by the criteria `value`; a tenth of the mean mark reaches `threshold` (0.7)."""
    criteria = texts_of(spec)
    opinions = await asyncio.gather(*(_mark(answer, spec, judge, criterion=criterion) for criterion in criteria))
    score = sum(opinion.score for opinion in opinions) / (10 * len(opinions))
    lowest = min(opinions, key=lambda opinion: opinion.score)
    return Judgement(
        passed=reaches(score, spec, default=DEFAULT_THRESHOLD),
        score=score,
        reason=reason_of(lowest.reason, otherwise=f"the judge gave {lowest.score:g} of 10 and no reason"),
    )


async def _mark(answer: Answer, spec: Assertion, judge: Judge, *, criterion: str) -> _Opinion:
    parts = (
        Part("Criterion", criterion, quoted=False),
        Part("Question", answer.question),
        Part("Answer to grade", answer.text),
    )
    own = msgspec.structs.replace(spec, value=criterion)
    return await ask_judge(judge, _TASK, parts, own, answer=answer, kind=_Opinion)
