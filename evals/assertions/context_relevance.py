"""`context-relevance`: how much of the retrieved documents is needed for the question, by a judge model."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import UNSET

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, context_of, query_of, reaches, texts_of
from evals.types import Assertion

_MOST_SENTENCES = 200
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")


class _Sentence(msgspec.Struct):
    number: float  # 1.0 is a whole number too, in JSON
    needed: bool


class _Opinion(msgspec.Struct):
    sentences: list[_Sentence]


def _task(count: int) -> Task:
    number = {"type": "integer", "minimum": 1, "maximum": count}
    item: dict[str, Any] = {
        "type": "object",
        "properties": {"number": number, "needed": {"type": "boolean"}},
        "required": ["number", "needed"],
    }
    sentences = {"type": "array", "items": item, "maxItems": count}
    return Task(
        "You say which sentences of a context are needed to answer a question. The sentences are numbered.",
        '{"sentences": [{"number": its number, "needed": true or false}]}',
        {"type": "object", "properties": {"sentences": sentences}, "required": ["sentences"]},
    )


def allow_context(spec: Assertion) -> None:
    """Raises InvalidAssertion unless the value is left out, or is the context: a text or a list of texts."""
    if spec.value is not UNSET and spec.value is not None:
        texts_of(spec)


@assertion("context-relevance", check=allow_context, graded=True)
async def context_relevance(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The share of the var `context` (else `value`) that the question needs reaches the threshold."""
    sentences = _sentences(context_of(answer, otherwise=spec.value))
    numbered = "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, 1))
    parts = (Part("Question", query_of(answer)), Part("Context", numbered))
    opinion = await ask_judge(judge, _task(len(sentences)), parts, spec, answer=answer, kind=_Opinion)
    needed = len({sentence.number for sentence in opinion.sentences if sentence.needed})
    score = needed / len(sentences)
    return Judgement(
        passed=reaches(score, spec),
        score=score,
        reason=f"the question needs {needed} of {len(sentences)} sentences of the context",
    )


def _sentences(text: str) -> list[str]:
    """The text's sentences, the last one with all that is left; at least one."""
    found = [piece.strip() for piece in _SENTENCE_END.split(text.strip(), maxsplit=_MOST_SENTENCES - 1)]
    return [piece for piece in found if piece] or [text]
