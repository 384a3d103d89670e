"""`select-best`: a judge model picks the best of the answers that several models and prompts gave to one case."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, reason_of
from evals.assertions._values import require_text
from evals.errors import CannotJudge
from evals.types import Assertion


class _Opinion(msgspec.Struct):
    best: float  # 1.0 is a whole number too, in JSON
    reason: str


def _task(count: int) -> Task:
    best: dict[str, Any] = {"type": "integer", "minimum": 1, "maximum": count}
    return Task(
        "You pick the one answer, of several to the same question, that meets a criterion best. The answers are "
        "numbered; their order and length mean nothing.",
        '{"reason": a sentence, "best": the number of the best answer}',
        {
            "type": "object",
            "properties": {"reason": {"type": "string"}, "best": best},
            "required": ["reason", "best"],
        },
    )


@assertion("select-best", check=require_text, graded=True, compares=True)
async def select_best(answers: Sequence[Answer], spec: Assertion, judge: Judge) -> list[Judgement]:
    """Of all answers to the case, a judge model picks this one as the best by the criterion `value`."""
    if len(answers) < 2:
        raise CannotJudge(
            f"{spec.type}: there is no other answer to compare with; test several models, or give several prompts"
        )
    # By content: no model stands first by habit, and equal answers are asked about in equal words.
    order = sorted(range(len(answers)), key=lambda index: hashlib.sha256(answers[index].text.encode()).digest())
    parts = [
        Part("Criterion", require_text(spec), quoted=False),
        Part("Question", answers[0].question),
        *(Part(f"Answer {number}", answers[index].text) for number, index in enumerate(order, 1)),
    ]
    own = msgspec.structs.replace(spec, rubric_prompt=None)  # it has a place for one answer
    opinion = await ask_judge(judge, _task(len(answers)), parts, own, answer=answers[0], kind=_Opinion)
    winner = order[int(opinion.best) - 1]
    reason = reason_of(opinion.reason, otherwise=f"answer {opinion.best:g} of {len(answers)} is the best")
    return [
        Judgement(passed=index == winner, score=float(index == winner), reason=reason) for index in range(len(answers))
    ]
