"""The cells of a CSV suite: what stands in an `__expected` column -> assertions."""

from __future__ import annotations

from evals.types import Assertion


def read_cell(text: str) -> tuple[Assertion, ...]:
    return (Assertion(type="equals", value=text.strip()),)
