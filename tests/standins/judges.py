"""Judges without a model: they answer by the schema that they are given, as well or as badly as they are told to."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from evals.models.echo import word_counts
from evals.types import Message

FENCE = re.compile(r"\bDATA-[0-9a-f]{24}\b")


class WillingJudge(Struct, frozen=True):
    """Likes everything, or nothing. Its texts are the last piece of data that it was shown."""

    likes: bool = True

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        shown = quoted_pieces(messages)
        answer: dict[str, Any] = instance(schema, likes=self.likes, text=shown[-1] if shown else "r")
        return answer

    async def embed(self, texts: tuple[str, ...], *, model: str | None) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(word_counts(text)) for text in texts)

    def again(self, times: int) -> WillingJudge:
        return self


class LiteralJudge(WillingJudge, frozen=True):
    """Likes what it is told to like anywhere outside of the data, as the weakest model would.

    It takes any text outside of the fences for its instructions, and looks there for a word that only the graded text
    holds.
    """

    order: str = ""
    steered: list[bool] = msgspec.field(default_factory=list)  # for each time that it was asked

    async def ask(self, messages: tuple[Message, ...], *, schema: dict[str, Any], model: str | None) -> dict[str, Any]:
        steered = self.order in instructions_of(messages)
        self.steered.append(steered)
        answer: dict[str, Any] = instance(schema, likes=steered, text="Where?" if steered else "r")
        return answer


def fence_of(messages: tuple[Message, ...]) -> str:
    """The fence that the instructions name."""
    found = FENCE.search(messages[0].content)
    assert found, "the instructions name no fence"
    return found[0]


def quoted_pieces(messages: tuple[Message, ...]) -> list[str]:
    """What stands behind the fence, in order."""
    fence = fence_of(messages)
    return re.findall(f"(?sm)^{fence}$\n(.*?)\n^{fence}$", messages[-1].content)


def instructions_of(messages: tuple[Message, ...]) -> str:
    """All that a judge is told, without what stands behind the fence."""
    fence = fence_of(messages)
    told = "\n".join(message.content for message in messages)
    return re.sub(f"(?sm)^{fence}$.*?^{fence}$", "", told)


def instance(schema: dict[str, Any], *, likes: bool, text: str) -> Any:
    """The best or the worst value that a schema allows; the best word of an `enum` stands first in it."""
    if "enum" in schema:
        return schema["enum"][0 if likes else -1]
    return _BY_TYPE[schema["type"]](schema, likes, text)


def _object(schema: dict[str, Any], likes: bool, text: str) -> Any:
    return {name: instance(schema["properties"][name], likes=likes, text=text) for name in schema["required"]}


def _array(schema: dict[str, Any], likes: bool, text: str) -> Any:
    return [instance(schema["items"], likes=likes, text=text)] * max(1, schema.get("minItems", 1))


_BY_TYPE: dict[str, Callable[[dict[str, Any], bool, str], Any]] = {
    "object": _object,
    "array": _array,
    "boolean": lambda schema, likes, text: likes,
    "number": lambda schema, likes, text: schema["maximum" if likes else "minimum"],
    "integer": lambda schema, likes, text: schema["maximum" if likes else "minimum"],
    "string": lambda schema, likes, text: text,
}
