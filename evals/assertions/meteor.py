"""`meteor`: how well the answer's words can be laid over a reference, stems and word order included."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise

from msgspec import Struct

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._ngrams import judge_score, require_comparable, require_references
from evals.errors import CannotJudge
from evals.javascript import lower, words
from evals.types import Assertion

_DEFAULT_THRESHOLD = 0.5
_ALPHA, _BETA, _GAMMA = 0.9, 3, 0.5  # the paper's weights of recall, of broken order, and of its penalty
_LONGEST_STEMMED = 60  # characters; a longer word is none


@assertion("meteor", check=require_references, slow=True)
def meteor(answer: Answer, spec: Assertion) -> Judgement:
    """The METEOR score of the answer against `value`, the best of several texts, is at least `threshold` (0.5)."""
    references = require_references(spec)
    text = require_comparable(answer, spec)
    if not text or not all(references):
        raise CannotJudge(f"{spec.type}: there is nothing to compare, as the answer or a text in `value` is empty")
    candidate = _words(text)
    score = max(_score(candidate, _words(reference)) for reference in references)
    return judge_score(score, spec, name="METEOR", default=_DEFAULT_THRESHOLD)


class _Pair(Struct, frozen=True, order=True):
    """A word of the answer and the word of the reference that it is laid over, by position."""

    here: int
    there: int


def _words(text: str) -> list[str]:
    stripped = (word.strip(string.punctuation) for word in words(lower(text)))
    return [word for word in stripped if word]


def _score(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """S. Banerjee, A. Lavie, "METEOR: an automatic metric for MT evaluation", 2005; equal words, then equal stems.

    The paper's third stage, synonyms, is left out: it needs a dictionary of one language.
    """
    pairs = _aligned(candidate, reference)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(candidate), len(pairs) / len(reference)
    mean = precision * recall / (_ALPHA * precision + (1 - _ALPHA) * recall)
    return mean * (1 - _GAMMA * (_pieces(pairs) / len(pairs)) ** _BETA)


def _aligned(candidate: Sequence[str], reference: Sequence[str]) -> list[_Pair]:
    here, there = list(range(len(candidate))), list(range(len(reference)))
    pairs: list[_Pair] = []
    for form in (str, _stemmer()):
        found = _same(candidate, reference, here=here, there=there, form=form)
        taken_here, taken_there = {pair.here for pair in found}, {pair.there for pair in found}
        here = [at for at in here if at not in taken_here]
        there = [at for at in there if at not in taken_there]
        pairs += found
    return sorted(pairs)


def _same(
    candidate: Sequence[str],
    reference: Sequence[str],
    *,
    here: Sequence[int],
    there: Sequence[int],
    form: Callable[[str], str],
) -> list[_Pair]:
    """Pairs of words of equal form, from the end of both texts, among those that are still free."""
    waiting: dict[str, list[int]] = {}
    for at in there:
        waiting.setdefault(form(reference[at]), []).append(at)
    free = ((at, waiting.get(form(candidate[at]))) for at in reversed(here))
    return [_Pair(at, places.pop()) for at, places in free if places]


def _pieces(pairs: Sequence[_Pair]) -> int:
    """Into how many runs, of words that follow each other in both texts, the pairs fall."""
    breaks = (after.here != before.here + 1 or after.there != before.there + 1 for before, after in pairwise(pairs))
    return 1 + sum(breaks)


def _stemmer() -> Callable[[str], str]:
    """Porter's stems. Made for each answer: the library's object holds the word that it works on."""
    # Imported late: few suites use it, and every command would pay for it.
    from snowballstemmer import stemmer

    stem = stemmer("porter").stemWord
    return cache(lambda word: stem(word) if len(word) <= _LONGEST_STEMMED else word)
