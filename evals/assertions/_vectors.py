"""How alike two texts are, by the vectors that an embedding model makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evals.errors import CannotJudge


def cosine(left: Sequence[float], right: Sequence[float]) -> float:
    """-1 to 1. Raises CannotJudge for a vector without a direction."""
    lengths = math.hypot(*left) * math.hypot(*right)
    if not lengths or not math.isfinite(lengths):
        raise CannotJudge("the embedding model gave a vector without a direction", kind="judge")
    return dot(left, right) / lengths


def dot(left: Sequence[float], right: Sequence[float]) -> float:
    """The sum of products."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    """0 and more."""
    return math.dist(left, right)
