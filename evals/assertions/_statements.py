"""Statements of one text that another one does or does not bear out, as a judge model counts them."""

from __future__ import annotations

from typing import Any

import msgspec

from evals.assertions import Judgement
from evals.assertions._opinions import Task, reaches
from evals.assertions._values import quoted
from evals.types import Assertion

_MOST_STATEMENTS = 200


class Statement(msgspec.Struct):
    """One statement, and whether the context bears it out."""

    statement: str
    supported: bool


class Statements(msgspec.Struct):
    """All statements of a text."""

    statements: list[Statement]


def statements_task(words: str, *, fewest: int) -> Task:
    """The task of finding statements, at least `fewest`, and of saying which the context bears out."""
    item: dict[str, Any] = {
        "type": "object",
        "properties": {"statement": {"type": "string"}, "supported": {"type": "boolean"}},
        "required": ["statement", "supported"],
    }
    statements = {"type": "array", "items": item, "minItems": fewest, "maxItems": _MOST_STATEMENTS}
    return Task(
        words,
        '{"statements": [{"statement": a text, "supported": true if the context says so or it follows from it}]}',
        {"type": "object", "properties": {"statements": statements}, "required": ["statements"]},
    )


def share_judgement(found: Statements, spec: Assertion) -> Judgement:
    """The share of statements that are borne out; 1 where there is none."""
    missing = [item.statement for item in found.statements if not item.supported]
    total = len(found.statements)
    score = (total - len(missing)) / total if total else 1.0
    first = f"; not {quoted(missing[0])}" if missing else ""
    said = (
        f"the context bears out {total - len(missing)} of {total} statements{first}" if total else "it states nothing"
    )
    return Judgement(passed=reaches(score, spec), score=score, reason=said)
