"""`levenshtein`: the answer is a text but for a few inserted, deleted or replaced characters."""

from __future__ import annotations

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._values import quoted
from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import number_text, utf16_units
from evals.types import Assertion

_DEFAULT_DISTANCE = 5.0
_MAX_EXPECTED = 5_000  # UTF-16 units; with _MAX_ANSWER well below a second
_MAX_ANSWER = 100_000


def require_expected(spec: Assertion) -> list[int]:
    """The expected text as UTF-16 units. Raises InvalidAssertion."""
    if not isinstance(spec.value, str):
        raise InvalidAssertion(f"{spec.type}: `value` must be a text; put a number in quotes")
    units = utf16_units(spec.value)
    if len(units) > _MAX_EXPECTED:
        raise InvalidAssertion(f"{spec.type}: `value` has {len(units):,} characters; {_MAX_EXPECTED:,} are the most")
    return units


@assertion("levenshtein", check=require_expected)
def levenshtein(answer: Answer, spec: Assertion) -> Judgement:
    """At most `threshold` (5) edits make the answer the text `value`; an emoji counts as two characters."""
    expected = require_expected(spec)
    limit = _DEFAULT_DISTANCE if spec.threshold is None else spec.threshold
    units = utf16_units(answer.text)
    if len(units) > _MAX_ANSWER:
        raise CannotJudge(f"{spec.type}: the answer has more than {_MAX_ANSWER:,} characters")
    distance = _distance(expected, units)
    passed = distance <= limit
    return Judgement(
        passed=passed,
        score=float(passed),
        reason=f"the answer is {distance} edits away from {quoted(str(spec.value))} (at most {number_text(limit)})",
    )


def _distance(left: list[int], right: list[int]) -> int:
    """The edit distance: Myers' bit-parallel algorithm, one big integer for each column of the table.

    G. Myers, "A fast bit-vector algorithm for approximate string matching", Journal of the ACM 46 (1999).
    """
    if not left:
        return len(right)
    positions: dict[int, int] = {}
    for index, unit in enumerate(left):
        positions[unit] = positions.get(unit, 0) | 1 << index
    everything = (1 << len(left)) - 1
    last = 1 << len(left) - 1
    rises, falls, distance = everything, 0, len(left)  # vertical differences +1 and -1
    for unit in right:
        same = positions.get(unit, 0)
        diagonal = (((same & rises) + rises) ^ rises) | same | falls
        across_up = falls | (everything & ~(diagonal | rises))
        across_down = rises & diagonal
        distance += bool(across_up & last) - bool(across_down & last)
        across_up = (across_up << 1 | 1) & everything
        across_down = across_down << 1 & everything
        rises = across_down | (everything & ~(diagonal | across_up))
        falls = across_up & diagonal
    return distance
