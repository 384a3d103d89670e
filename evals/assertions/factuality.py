"""`factuality`: a judge model compares the facts of the answer with those of a text that is known to be true."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import Part, Task, ask_judge, reaches, reason_of
from evals.assertions._values import number_of
from evals.errors import InvalidAssertion
from evals.types import Assertion

# promptfoo's categories, the best one first, with its names for their scores.
_CATEGORIES: Final = {
    "C": ("agree", "the answer has the same facts as the reference"),
    "A": ("subset", "the answer has some of the reference's facts and no others"),
    "B": ("superset", "the answer has all of the reference's facts and others that do not contradict them"),
    "E": ("differButFactual", "the answer differs from the reference in what does not matter for the facts"),
    "D": ("disagree", "the answer contradicts the reference"),
}
_SCORES: Final = {"agree": 1.0, "subset": 1.0, "superset": 1.0, "differButFactual": 1.0, "disagree": 0.0}

_TASK = Task(
    "You compare the facts in the answer of another system with those in a reference, which is true. Style, grammar "
    "and marks do not matter.\nThe categories are:\n"
    + "\n".join(f"{letter}: {meaning}" for letter, (_, meaning) in _CATEGORIES.items()),
    '{"reason": a sentence, "category": one of the letters}',
    {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "category": {"enum": list(_CATEGORIES)}},
        "required": ["reason", "category"],
    },
)


class _Opinion(msgspec.Struct):
    category: str
    reason: str


class _Expected(msgspec.Struct, frozen=True):
    reference: str
    scores: dict[str, float]


def require_reference(spec: Assertion) -> _Expected:
    """The value: a text, or {reference, scores} with a score for some categories. Raises InvalidAssertion."""
    value: Any = spec.value
    if isinstance(value, str) and value:
        return _Expected(value, _SCORES)
    if not isinstance(value, dict) or not isinstance(value.get("reference"), str) or not value["reference"]:
        raise InvalidAssertion(f"{spec.type}: `value` must be a text that is not empty, or {{reference, scores}}")
    scores = value.get("scores", {})
    known = ", ".join(_SCORES)
    if not isinstance(scores, dict) or not set(value) <= {"reference", "scores"} or not set(scores) <= set(_SCORES):
        raise InvalidAssertion(f"{spec.type}: `value` has `reference`, and `scores` for some of {known}")
    numbers = {name: number_of(score) for name, score in scores.items()}
    if not all(number is not None and 0 <= number <= 1 for number in numbers.values()):
        raise InvalidAssertion(f"{spec.type}: `scores` lie between 0 and 1")
    return _Expected(value["reference"], _SCORES | {name: number or 0.0 for name, number in numbers.items()})


@assertion("factuality", check=require_reference, graded=True)
async def factuality(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """A judge model finds that the answer's facts do not contradict the text `value`."""
    expected = require_reference(spec)
    parts = (
        Part("Question", answer.question),
        Part("Reference", expected.reference),
        Part("Answer to grade", answer.text),
    )
    # What a template of the author's calls `rubric` is the reference, also where it has scores beside it.
    own = msgspec.structs.replace(spec, value=expected.reference)
    opinion = await ask_judge(judge, _TASK, parts, own, answer=answer, kind=_Opinion)
    name, meaning = _CATEGORIES[opinion.category]
    score = expected.scores[name]
    return Judgement(passed=reaches(score, spec), score=score, reason=reason_of(opinion.reason, otherwise=meaning))
