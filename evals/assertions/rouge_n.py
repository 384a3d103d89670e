"""`rouge-n`: how many words the answer and a reference share."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._ngrams import MOST_REFERENCE_CHARACTERS, grams, judge_score, require_comparable, shared
from evals.assertions._treebank import treebank_words
from evals.errors import InvalidAssertion
from evals.javascript import lower
from evals.types import Assertion

_DEFAULT_THRESHOLD = 0.75


def require_reference(spec: Assertion) -> str:
    """The text that the answer is compared with. Raises InvalidAssertion."""
    if not isinstance(spec.value, str):
        raise InvalidAssertion(f"{spec.type}: `value` must be the text to compare with")
    if len(spec.value) > MOST_REFERENCE_CHARACTERS:
        raise InvalidAssertion(
            f"{spec.type}: `value` is too long; {MOST_REFERENCE_CHARACTERS:,} characters are the most"
        )
    return spec.value


@assertion("rouge-n", check=require_reference)
def rouge_n(answer: Answer, spec: Assertion) -> Judgement:
    """The ROUGE-1 score (F1 of single words) of the answer against `value` is at least `threshold` (0.75)."""
    score = _score(require_comparable(answer, spec), require_reference(spec))
    return judge_score(score, spec, name="ROUGE-1", default=_DEFAULT_THRESHOLD)


def _score(answer: str, reference: str) -> float:
    """C.-Y. Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, with precision and recall alike."""
    left, right = grams(treebank_words(lower(answer)), 1), grams(treebank_words(lower(reference)), 1)
    both = left.total() + right.total()
    # The same as 2PR / (P + R), but rounded once: a score of 0.8 must reach a threshold of 0.8.
    return 2 * shared(left, right) / both if both else 0.0
