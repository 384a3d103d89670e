"""`tool-call-f1`: the answer calls the tools that were expected, and no others."""

from __future__ import annotations

from collections.abc import Iterable

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._tool_calls import names_in
from evals.errors import InvalidAssertion
from evals.javascript import number_text, strip
from evals.types import Assertion

_DEFAULT_THRESHOLD = 1.0
_SHOWN_NAMES = 10


def require_names(spec: Assertion) -> frozenset[str]:
    """The names of the tools: a list, or one text with commas between them. Raises InvalidAssertion."""
    names = spec.value.split(",") if isinstance(spec.value, str) else spec.value
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidAssertion(
            f"{spec.type}: `value` must be a list of names of tools, or one text with commas between them"
        )
    wanted = frozenset(name for name in map(strip, names) if name)
    if not wanted:
        raise InvalidAssertion(f"{spec.type}: `value` names no tool; name at least one")
    return wanted


@assertion("tool-call-f1", check=require_names)
def tool_call_f1(answer: Answer, spec: Assertion) -> Judgement:
    """The names of the called tools and of those in `value` agree: their F1 score is at least `threshold` (1)."""
    wanted, called = require_names(spec), names_in(answer)
    # The harmonic mean of precision and recall, rounded once.
    score = 2 * len(wanted & called) / (len(wanted) + len(called))
    limit = _DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
    return Judgement(
        passed=score >= limit,
        score=score,
        reason=f"the answer calls {_listed(called)}, expected {_listed(wanted)}: "
        f"F1 score {score:.3f} (at least {number_text(limit)})",
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(name[:60] for name in ordered[:_SHOWN_NAMES]) or "no tool"
    more = len(ordered) - _SHOWN_NAMES
    return f"{shown} and {more} more" if more > 0 else shown
