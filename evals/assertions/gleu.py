"""`gleu`: how much wording the answer and a reference share, in both directions."""

from __future__ import annotations

from collections import Counter

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._ngrams import Gram, grams, judge_score, require_comparable, require_references, shared
from evals.javascript import lower, words
from evals.types import Assertion

_DEFAULT_THRESHOLD = 0.5
_LONGEST_RUN = 4


@assertion("gleu", check=require_references)
def gleu(answer: Answer, spec: Assertion) -> Judgement:
    """The GLEU score of the answer against `value`, the best of several texts, is at least `threshold` (0.5)."""
    candidate = _runs(require_comparable(answer, spec))
    score = max(_score(candidate, _runs(reference)) for reference in require_references(spec))
    return judge_score(score, spec, name="GLEU", default=_DEFAULT_THRESHOLD)


def _runs(text: str) -> Counter[Gram]:
    """All runs of 1 to 4 words; the dots at the end of a word do not count.

    A word of dots alone keeps its place, as a word without characters, unless there are no others.
    """
    plain = [word.rstrip(".") for word in words(lower(text))]
    runs: Counter[Gram] = Counter()
    if not any(plain):
        return runs
    for size in range(1, _LONGEST_RUN + 1):
        runs += grams(plain, size)
    return runs


def _score(candidate: Counter[Gram], reference: Counter[Gram]) -> float:
    """The smaller one of precision and recall: Y. Wu et al., "Google's neural machine translation system", 2016."""
    most = max(candidate.total(), reference.total())
    return shared(candidate, reference) / most if most else 0.0
