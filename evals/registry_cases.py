"""The registry's test cases as a suite: each criterion in prose becomes a sentence that a judge holds the answer to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from evals.printable import shortened

MOST_CASES = 50


class RegistryCase(Struct, frozen=True, kw_only=True):
    """As `GET /api/v1/packages/{id}/test-cases` has it; `confidence_score` is 0..1."""

    title: str
    input: str
    expected_criteria: tuple[str, ...] = ()
    confidence_score: float | str | None = None  # PostgreSQL's numeric comes as a text
    is_active: bool = True


def suite_of_cases(cases: Iterable[RegistryCase]) -> dict[str, Any] | None:
    """A suite in its author's words with the cases that say what is expected, the surest first; None without any."""
    usable = [case for case in cases if case.is_active and case.input.strip() and _criteria(case)]
    surest = sorted(usable, key=_confidence, reverse=True)[:MOST_CASES]
    return {"tests": [_test(case) for case in surest]} if surest else None


def _test(case: RegistryCase) -> dict[str, Any]:
    return {
        "description": shortened(" ".join(case.title.split()), limit=200) or "Untitled",
        # What these texts hold is no template.
        "input": _literal(case.input),
        "assert": [{"type": "llm-rubric", "value": _literal(text)} for text in _criteria(case)],
    }


def _criteria(case: RegistryCase) -> list[str]:
    return [text.strip() for text in case.expected_criteria if text.strip()]


def _literal(text: str) -> str:
    """The text so that rendering it as a template gives it back."""
    if not any(opening in text for opening in ("{{", "{%", "{#")):
        return text
    return "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def _confidence(case: RegistryCase) -> float:
    try:
        return float(case.confidence_score or 0)
    except ValueError:
        return 0.0
