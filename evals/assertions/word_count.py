"""`word-count`: the answer has so many words."""

from __future__ import annotations

from msgspec import Struct

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import number_of
from evals.errors import InvalidAssertion
from evals.javascript import number_text, words
from evals.types import Assertion


class Bounds(Struct, frozen=True):
    """How many words are allowed, both ends included; None is open."""

    least: float | None
    most: float | None

    def __str__(self) -> str:
        if self.least == self.most and self.least is not None:
            return f"exactly {number_text(self.least)}"
        ends = [("at least", self.least), ("at most", self.most)]
        return " and ".join(f"{word} {number_text(end)}" for word, end in ends if end is not None)


def require_bounds(spec: Assertion) -> Bounds:
    """The value as bounds: a number, or an object with `min`, `max` or both. Raises InvalidAssertion."""
    if isinstance(spec.value, dict):
        return _read_range(spec, spec.value)
    number = number_of(spec.value)
    if number is None:
        raise InvalidAssertion(f"{spec.type}: `value` must be a number, or an object with `min`, `max` or both")
    return Bounds(number, number)


def _read_range(spec: Assertion, ends: dict[str, object]) -> Bounds:
    numbers = {key: number_of(end) for key, end in ends.items()}
    if not numbers or numbers.keys() - {"min", "max"} or None in numbers.values():
        raise InvalidAssertion(f"{spec.type}: the object in `value` must have numbers in `min`, `max` or both")
    bounds = Bounds(numbers.get("min"), numbers.get("max"))
    if bounds.least is not None and bounds.most is not None and bounds.least > bounds.most:
        raise InvalidAssertion(f"{spec.type}: `min` is larger than `max`")
    return bounds


@assertion("word-count", check=require_bounds)
def word_count(answer: Answer, spec: Assertion) -> Judgement:
    """The answer has `value` words, a number or {min, max}; words stand between white space."""
    bounds = require_bounds(spec)
    count = len(words(answer.text))
    passed = (bounds.least is None or count >= bounds.least) and (bounds.most is None or count <= bounds.most)
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer has {count} words (asked for {bounds})",
    )
