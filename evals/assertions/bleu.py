"""`bleu`: how much of the answer's wording stands in a reference (precision of runs of 1 to 4 words)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._ngrams import grams, judge_score, require_comparable, require_references, shared
from evals.javascript import lower, words
from evals.types import Assertion

_DEFAULT_THRESHOLD = 0.5
_LONGEST_RUN = 4
_NOTHING_SHARED = 1e-7  # stands for a precision of 0, as the mean is a geometric one


@assertion("bleu", check=require_references)
def bleu(answer: Answer, spec: Assertion) -> Judgement:
    """The BLEU-4 score of the answer against `value`, a text or several, is at least `threshold` (0.5)."""
    # A reference without a word counts as one word that no answer has.
    references = [words(lower(text)) or [""] for text in require_references(spec)]
    candidate = words(lower(require_comparable(answer, spec)))
    return judge_score(_score(candidate, references), spec, name="BLEU", default=_DEFAULT_THRESHOLD)


def _score(candidate: list[str], references: Sequence[list[str]]) -> float:
    """K. Papineni et al., "BLEU: a method for automatic evaluation of machine translation", ACL 2002.

    Words keep their punctuation. An answer of fewer than four words is scored by the runs that it has.
    """
    if not candidate:
        return 0.0
    longest = min(_LONGEST_RUN, len(candidate))
    weight = 1 / longest
    mean = math.exp(sum(weight * math.log(_precision(candidate, references, n)) for n in range(1, longest + 1)))
    return _brevity(len(candidate), [len(reference) for reference in references]) * mean


def _precision(candidate: list[str], references: Sequence[list[str]], size: int) -> float:
    """By the reference that shares most: runs that stand in different ones are not added up."""
    counted = grams(candidate, size)
    found = max(shared(counted, grams(reference, size)) for reference in references)
    return found / counted.total() if found else _NOTHING_SHARED


def _brevity(length: int, reference_lengths: Sequence[int]) -> float:
    """The penalty for an answer that is shorter than the reference of the nearest length."""
    nearest = min(reference_lengths, key=lambda reference: (abs(reference - length), reference))
    return 1.0 if length >= nearest else math.exp(1 - nearest / length)
