"""What a model said in a stream of Anthropic's Messages API, read as it passes by.

https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

import itertools
import json
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from evals.types import ToolCall

# Of what is kept of a trial: a model that means harm calls often, and at length.
_MOST_CALLS = 500
_MOST_NAME = 200
_MOST_ARGUMENTS = 20_000


class Said(Struct, frozen=True, kw_only=True):
    """One answer. Counts are None where the stream did not give them."""

    text: str
    calls: tuple[Call, ...]
    stop_reason: str | None
    model: str | None
    input_tokens: int | None
    output_tokens: int | None


class Call(NamedTuple):
    """One call of a tool, as the model made it."""

    id: str
    name: str
    arguments: str  # JSON


class StreamReader:
    """Fed with the bytes of one answer, in pieces of any size. Nothing in them makes it fail."""

    def __init__(self) -> None:
        self._rest = b""
        self._texts: dict[int, list[str]] = {}
        self._tools: dict[int, dict[str, Any]] = {}
        self._stop_reason: str | None = None
        self._model: str | None = None
        self._input: int | None = None
        self._output: int | None = None
        self.is_whole = False  # the stream came to its end

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                self._event(line[5:])

    def said(self) -> Said:
        """What was said so far."""
        calls = [
            Call(tool["id"], tool["name"], "".join(tool["json"]) or "{}") for _, tool in sorted(self._tools.items())
        ]
        return Said(
            text="\n".join("".join(parts) for _, parts in sorted(self._texts.items())),
            calls=tuple(calls),
            stop_reason=self._stop_reason,
            model=self._model,
            input_tokens=self._input,
            output_tokens=self._output,
        )

    def _event(self, data: bytes) -> None:
        try:
            event = msgspec.json.decode(data)
        except (msgspec.DecodeError, RecursionError):
            return
        if not isinstance(event, dict):
            return
        match event.get("type"):
            case "message_start":
                message = _object(event.get("message"))
                self._model = _text(message.get("model")) or self._model
                self._count(_object(message.get("usage")))
            case "content_block_start":
                self._start(event.get("index"), _object(event.get("content_block")))
            case "content_block_delta":
                self._add(event.get("index"), _object(event.get("delta")))
            case "message_delta":
                self._stop_reason = _text(_object(event.get("delta")).get("stop_reason")) or self._stop_reason
                self._count(_object(event.get("usage")))
            case "message_stop":
                self.is_whole = True

    def _start(self, index: Any, block: dict[str, Any]) -> None:
        if not isinstance(index, int):
            return
        if block.get("type") == "text":
            self._texts.setdefault(index, []).append(_text(block.get("text")) or "")
        elif block.get("type") == "tool_use":
            given = block.get("input")
            self._tools[index] = {
                "id": _text(block.get("id")) or "",
                "name": _text(block.get("name")) or "",
                "json": [json.dumps(given)] if given else [],
            }

    def _add(self, index: Any, delta: dict[str, Any]) -> None:
        if delta.get("type") == "text_delta" and index in self._texts:
            self._texts[index].append(_text(delta.get("text")) or "")
        elif delta.get("type") == "input_json_delta" and index in self._tools:
            self._tools[index]["json"].append(_text(delta.get("partial_json")) or "")

    def _count(self, usage: dict[str, Any]) -> None:
        """Tokens that a cache held or took count as read: what is paid for them is never more than twice as much."""
        parts = [_number(usage.get(name)) for name in _INPUT_COUNTS]
        if any(part is not None for part in parts):
            self._input = sum(part or 0 for part in parts)
        output = _number(usage.get("output_tokens"))
        self._output = output if output is not None else self._output


_INPUT_COUNTS = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")


class Transcript:
    """What was said in one trial, over all its calls."""

    def __init__(self) -> None:
        self.answers: list[Said] = []
        self.offered: list[dict[str, Any]] = []  # the tools that the model could call, as it was told of them
        self.failed: set[str] = set()  # ids of calls that the agent answered with an error

    @property
    def tokens(self) -> int:
        return sum((said.input_tokens or 0) + (said.output_tokens or 0) for said in self.answers)

    @property
    def text(self) -> str:
        """The last thing that was said to the user."""
        return next((said.text for said in reversed(self.answers) if said.text), "")

    def note_request(self, body: dict[str, Any]) -> None:
        """What the agent tells the model: which tools there are, and which calls went wrong."""
        tools = body.get("tools")
        self.offered = [tool for tool in tools if isinstance(tool, dict)] if isinstance(tools, list) else []
        for message in body.get("messages") or ():
            content = message.get("content") if isinstance(message, dict) else None
            for block in content if isinstance(content, list) else ():
                if isinstance(block, dict) and block.get("type") == "tool_result" and block.get("is_error") is True:
                    self.failed.add(str(block.get("tool_use_id")))

    def calls(self) -> tuple[ToolCall, ...]:
        """Every call, in order; a tool that was not offered is refused by the agent."""
        offered = {tool.get("name") for tool in self.offered}
        return tuple(
            ToolCall(
                name=_clean(call.name)[:_MOST_NAME],
                arguments=_clean(call.arguments)[:_MOST_ARGUMENTS],
                failed=call.id in self.failed,
                refused=call.name not in offered,
            )
            for call in itertools.islice((call for said in self.answers for call in said.calls), _MOST_CALLS)
        )

    def tools(self) -> tuple[dict[str, Any], ...]:
        """The tools that the model could call, in OpenAI's form."""
        return tuple(
            {
                "type": "function",
                "function": {"name": tool.get("name"), "parameters": tool.get("input_schema") or {}},
            }
            for tool in self.offered
        )


def _clean(text: str) -> str:
    """What no database takes becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None
