"""What the scores that compare words with a reference share: reading references, and counting runs of words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from evals.assertions import Answer, Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import number_text
from evals.types import Assertion

# Together well below a second, however the words repeat.
MOST_ANSWER_CHARACTERS = 50_000
MOST_REFERENCE_CHARACTERS = 50_000

Gram = tuple[str, ...]


def require_references(spec: Assertion) -> list[str]:
    """The texts that the answer is compared with: the value, a text or a list of texts. Raises InvalidAssertion."""
    value = [spec.value] if isinstance(spec.value, str) else spec.value
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise InvalidAssertion(f"{spec.type}: `value` must be the text to compare with, or a list of such texts")
    if not value:
        raise InvalidAssertion(f"{spec.type}: the list in `value` is empty; give at least one text to compare with")
    if sum(map(len, value)) > MOST_REFERENCE_CHARACTERS:
        raise InvalidAssertion(
            f"{spec.type}: the texts in `value` are too long; {MOST_REFERENCE_CHARACTERS:,} characters are the most"
        )
    return list(value)


def require_comparable(answer: Answer, spec: Assertion) -> str:
    """The answer's text. Raises CannotJudge when it is too long to be compared word by word."""
    if len(answer.text) > MOST_ANSWER_CHARACTERS:
        raise CannotJudge(
            f"{spec.type}: the answer has more than {MOST_ANSWER_CHARACTERS:,} characters; ask for a shorter one"
        )
    return answer.text


def grams(words: Sequence[str], size: int) -> Counter[Gram]:
    """How often each run of `size` words stands in the text."""
    return Counter(zip(*(words[start:] for start in range(size)), strict=False))


def shared(left: Counter[Gram], right: Counter[Gram]) -> int:
    """How many runs both have, each as often as the one with fewer of it has it."""
    return sum(min(count, right[gram]) for gram, count in left.items() if gram in right)


def judge_score(score: float, spec: Assertion, *, name: str, default: float) -> Judgement:
    """A score from 0 to 1 that has to reach the threshold."""
    limit = default if spec.threshold is None else spec.threshold
    return Judgement(
        passed=score >= limit,
        score=score,
        reason=f"the {name} score of the answer is {score:.4f} (at least {number_text(limit)})",
    )
