"""A suite with some of its cases only, chosen by their titles."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from evals.errors import InvalidSuite
from evals.printable import shortened
from evals.types import Case, Suite

MOST_SHOWN = 20


def select_cases(suite: Suite, texts: Sequence[str]) -> Suite:
    """The suite with the cases that one of the texts names, in their order; without texts the suite as it is.

    A text that is a whole title names the cases of that title alone, any other those that hold it; upper and lower
    case are the same. Raises InvalidSuite for a text that names no case, with the titles that there are.
    """
    if not texts:
        return suite
    named = {id(case) for text in texts for case in _named(suite, text)}
    return msgspec.structs.replace(suite, cases=tuple(case for case in suite.cases if id(case) in named))


def without_judges(suite: Suite) -> Suite:
    """The suite with the cases that no model judges, in their order; there may be none."""
    from evals.grading import is_graded, parts_of

    def is_judged(case: Case) -> bool:
        return any(is_graded(assertion) for part in parts_of(case) for assertion in part.singles)

    return msgspec.structs.replace(suite, cases=tuple(case for case in suite.cases if not is_judged(case)))


def _named(suite: Suite, text: str) -> list[Case]:
    wanted = text.casefold()
    exact = [case for case in suite.cases if case.title.casefold() == wanted]
    found = exact or [case for case in suite.cases if wanted in case.title.casefold()]
    if not found:
        titles = [f"cases: {shortened(case.title, limit=100)}" for case in suite.cases[:MOST_SHOWN]]
        more = len(suite.cases) - len(titles)
        raise InvalidSuite(
            f"No case's title holds {shortened(text, limit=100)!r}.",
            [*titles, *([f"cases: and {more} more"] if more > 0 else [])],
        )
    return found
