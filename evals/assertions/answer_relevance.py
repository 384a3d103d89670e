"""`answer-relevance`: whether the answer is one to the question, told from the questions that it would answer."""

from __future__ import annotations

from typing import Final

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, query_of, reaches
from evals.assertions._values import quoted, refuse_settings
from evals.assertions._vectors import cosine
from evals.errors import CannotJudge
from evals.types import Assertion

QUESTIONS: Final = 3  # that are made of an answer

_TASK = Task(
    f"You are shown an answer without its question. Write {QUESTIONS} different questions that it would answer, each "
    "as somebody would ask it.",
    '{"questions": [texts]}',
    {
        "type": "object",
        "properties": {
            "questions": {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": QUESTIONS,
                "maxItems": QUESTIONS,
            }
        },
        "required": ["questions"],
    },
)


class _Opinion(msgspec.Struct):
    questions: list[str]


@assertion("answer-relevance", check=refuse_settings, graded=True, embeds=True)
async def answer_relevance(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """Questions that a judge model makes of the answer are as near to the one that was asked as `threshold` says."""
    query = query_of(answer)
    if not query:
        raise CannotJudge(f"{spec.type}: there is no question; give the case an `input`, or a var `query`")
    opinion = await ask_judge(judge, _TASK, [Part("Answer", answer.text)], spec, answer=answer, kind=_Opinion)
    own, *others = await judge.embed((query, *opinion.questions), model=None)
    score = min(1.0, max(0.0, sum(cosine(own, other) for other in others) / len(others)))
    return Judgement(
        passed=reaches(score, spec),
        score=score,
        reason=f"it would answer {quoted(opinion.questions[0])}, whose similarity to the question is {score:.3f}",
    )
