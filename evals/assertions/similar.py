"""`similar`: the answer means what a text means, by an embedding model; also with other measures of nearness."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from evals.assertions import Answer, Judge, Judgement, assertion
from evals.assertions._opinions import texts_of
from evals.assertions._values import quoted
from evals.assertions._vectors import cosine, distance, dot
from evals.types import Assertion

DEFAULT_THRESHOLD: Final = 0.75
_HAIR = 1e-6  # vectors come in single precision: equal texts may be that far apart

Measure = Callable[[Sequence[float], Sequence[float]], float]


@assertion("similar", check=texts_of, graded=True, asks=False, embeds=True)
async def similar(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The answer is as near to a text of `value` as `threshold` (0.75) says, by cosine similarity."""
    return await _nearest(answer, spec, judge, measure=cosine)


@assertion("similar:cosine", check=texts_of, graded=True, asks=False, embeds=True)
async def similar_cosine(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The same as `similar`."""
    return await _nearest(answer, spec, judge, measure=cosine)


@assertion("similar:dot", check=texts_of, graded=True, asks=False, embeds=True)
async def similar_dot(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The answer is as near to a text of `value` as `threshold` (0.75) says, by the product of their vectors."""
    return await _nearest(answer, spec, judge, measure=dot)


@assertion("similar:euclidean", check=texts_of, graded=True, asks=False, embeds=True)
async def similar_euclidean(answer: Answer, spec: Assertion, judge: Judge) -> Judgement:
    """The answer's vector lies at most `threshold` (0.75) away from that of a text of `value`."""
    limit = spec.threshold if spec.threshold is not None else DEFAULT_THRESHOLD
    texts = texts_of(spec)
    own, *others = await judge.embed((answer.text, *texts), model=spec.model)
    found, text = min(zip((distance(own, other) for other in others), texts, strict=True))
    return Judgement(
        passed=found <= limit + _HAIR,
        score=1 / (1 + found),
        reason=f"the distance to {quoted(text)} is {found:.3f} (at most {limit:g})",
    )


async def _nearest(answer: Answer, spec: Assertion, judge: Judge, *, measure: Measure) -> Judgement:
    limit = spec.threshold if spec.threshold is not None else DEFAULT_THRESHOLD
    texts = texts_of(spec)
    own, *others = await judge.embed((answer.text, *texts), model=spec.model)
    found, text = max(zip((measure(own, other) for other in others), texts, strict=True))
    return Judgement(
        passed=found >= limit - _HAIR,
        score=min(1.0, max(0.0, found)),
        reason=f"the similarity to {quoted(text)} is {found:.3f} (at least {limit:g})",
    )
