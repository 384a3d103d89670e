"""Embeddings in OpenAI's form, read from what a server or a library gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from evals.types import Completion

LARGEST_EMBEDDINGS = 32 * 2**20  # bytes: 20 vectors of 4,096 numbers in JSON are 2 MB
_DIGITS = 7  # vectors come in single precision; more digits only fill caches


class _Item(Struct, frozen=True):
    embedding: list[float]
    index: int | None = None


class _Reply(Struct, frozen=True):
    data: list[_Item]
    model: str | None = None
    usage: Any = None


_DECODER = msgspec.json.Decoder(_Reply)


def decode_embeddings(content: bytes, *, count: int, model: str) -> Completion:
    """The completion in a server's JSON, with `count` vectors. Raises ValueError for anything else."""
    try:
        reply = _DECODER.decode(content)
    except (msgspec.MsgspecError, RecursionError):
        raise ValueError("no embeddings") from None
    order = sorted(range(len(reply.data)), key=lambda at: given if (given := reply.data[at].index) is not None else at)
    return embeddings_completion(
        [reply.data[at].embedding for at in order],
        count=count,
        answered_by=reply.model or model,
        input_tokens=reply.usage.get("prompt_tokens") if isinstance(reply.usage, dict) else None,
    )


def embeddings_completion(
    vectors: Sequence[Sequence[Any]], *, count: int, answered_by: str, input_tokens: object
) -> Completion:
    """The completion with these vectors. Raises ValueError unless there are `count`, equally long and of numbers."""
    if len(vectors) != count or len({len(vector) for vector in vectors}) != 1:
        raise ValueError("not a vector for each text")
    read = tuple(tuple(_rounded(number) for number in vector) for vector in vectors)
    tokens = input_tokens if type(input_tokens) is int and 0 <= input_tokens < 2**31 else None
    return Completion(
        text="",
        answered_by=answered_by,
        input_tokens=tokens,
        # Nothing is written, so what was read decides the cost.
        output_tokens=None if tokens is None else 0,
        vectors=read,
    )


def _rounded(number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError("not a number")
    return float(f"{number:.{_DIGITS}g}")
