"""What the six `contains` assertions share: looking for texts and saying which were found."""

from __future__ import annotations

from collections.abc import Sequence

from evals.assertions import Judgement
from evals.assertions._values import quoted

_SHOWN_NEEDLES = 5


def judge_one(haystack: str, needle: str, *, shown: str) -> Judgement:
    """Whether the needle is in the text; `shown` is how its author wrote it."""
    found = needle in haystack
    return Judgement(
        passed=found,
        score=float(found),
        reason=f"the answer {'contains' if found else 'does not contain'} {quoted(shown)}",
    )


def judge_any(haystack: str, needles: Sequence[str]) -> Judgement:
    """Whether at least one needle is in the text; none is when there are no needles."""
    found = next((needle for needle in needles if needle in haystack), None)
    if found is None:
        return Judgement(passed=False, score=0.0, reason=f"the answer contains none of {_listed(needles)}")
    return Judgement(passed=True, score=1.0, reason=f"the answer contains {quoted(found)}")


def judge_all(haystack: str, needles: Sequence[str]) -> Judgement:
    """Whether every needle is in the text; all are when there are no needles."""
    missing = [needle for needle in needles if needle not in haystack]
    if missing:
        return Judgement(passed=False, score=0.0, reason=f"the answer does not contain {_listed(missing)}")
    return Judgement(passed=True, score=1.0, reason=f"the answer contains all of {_listed(needles)}")


def _listed(needles: Sequence[str]) -> str:
    shown = ", ".join(quoted(needle) for needle in needles[:_SHOWN_NEEDLES])
    more = len(needles) - _SHOWN_NEEDLES
    return f"{shown} and {more} more" if more > 0 else shown or "nothing"
