"""`context-faithfulness`: whether the answer keeps to the retrieved documents, by a judge model."""

from __future__ import annotations

from msgspec import UNSET

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, ask_judge, context_of, query_of, texts_of
from evals.assertions._statements import Statements, share_judgement, statements_task
from evals.types import Assertion

_TASK = statements_task(
    "You check whether an answer keeps to its context. Take the answer apart into statements that stand on their own, "
    "and say of each whether the context bears it out. What you know yourself does not count.",
    fewest=0,
)


def allow_context(spec: Assertion) -> None:
    """Raises InvalidAssertion unless the value is left out, or is the context: a text or a list of texts."""
    if spec.value is not UNSET and spec.value is not None:
        texts_of(spec)


@assertion("context-faithfulness", check=allow_context, graded=True)
async def context_faithfulness(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The share of the answer's statements that the var `context` (else `value`) bears out reaches the threshold."""
    parts = (
        Part("Context", context_of(answer, otherwise=spec.value)),
        Part("Question", query_of(answer)),
        Part("Answer to grade", answer.text),
    )
    found = await ask_judge(judge, _TASK, parts, spec, answer=answer, kind=Statements)
    return share_judgement(found, spec)
