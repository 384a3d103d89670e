"""`context-recall`: how much of what is known to be true the retrieved documents hold, by a judge model."""

from __future__ import annotations

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, ask_judge, context_of
from evals.assertions._statements import Statements, share_judgement, statements_task
from evals.assertions._values import require_text
from evals.types import Assertion

_TASK = statements_task(
    "You check documents against a text that is true. Take the text apart, one statement a sentence, and say of each "
    "whether the context holds it.",
    fewest=1,
)


@assertion("context-recall", check=require_text, graded=True)
async def context_recall(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The share of the true text `value` that the var `context` holds (else the prompt) reaches the threshold."""
    context = context_of(answer, otherwise=answer.question)
    parts = (Part("Context", context), Part("True text", require_text(spec)))
    found = await ask_judge(judge, _TASK, parts, spec, answer=answer, kind=Statements)
    return share_judgement(found, spec)
