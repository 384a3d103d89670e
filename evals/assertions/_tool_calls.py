"""Calls of tools: those that the provider reported, and those that an answer spells as JSON in its text."""

from __future__ import annotations

from collections.abc import Iterator

from evals.assertions import Answer
from evals.assertions._json_blocks import json_blocks
from evals.javascript import NotJson, json_text, parse_json
from evals.types import JsonValue, ToolCall


def names_in(answer: Answer) -> frozenset[str]:
    """The names of the tools that the answer calls, reported or spelt in its text."""
    reported = answer.completion.tool_calls if answer.completion else ()
    if reported:
        return frozenset(call.name for call in reported)
    return frozenset(_names_in_text(answer.text))


def _names_in_text(text: str) -> Iterator[str]:
    """By the whole text if that is JSON, else by each block of lines that is."""
    try:
        values = iter((parse_json(text),))
    except NotJson:
        values = json_blocks(text)
    for value in values:
        yield from _names_in_value(value)


def _names_in_value(value: JsonValue) -> Iterator[str]:
    """The names in the forms of OpenAI (chat and responses), Anthropic and Google; in a list a bare name counts."""
    if isinstance(value, list):
        for item in value:
            yield from _names(_call_in_list(item))
    elif isinstance(value, dict):
        yield from _names_in_object(value)


def _names_in_object(value: dict[str, JsonValue]) -> Iterator[str]:
    calls, live = value.get("tool_calls"), value.get("toolCall")  # the latter is of Google's live API
    if isinstance(calls, list):
        for call in calls:
            if isinstance(call, dict):
                yield from _names(call.get("function"))
                yield from _names(call)
    elif _is_named(value, *_TYPES):
        yield from _names(value)
    elif isinstance(value.get("functionCall"), dict):
        yield from _names(value["functionCall"])
    elif isinstance(live, dict) and isinstance(live.get("functionCalls"), list):
        for call in live["functionCalls"]:
            yield from _names(call)


_TYPES = ("tool_use", "function_call")


def _call_in_list(item: JsonValue) -> JsonValue:
    """What holds the name of the tool that an item of a list calls."""
    if not isinstance(item, dict) or _is_named(item, "tool_use"):
        return item
    return next((item[key] for key in ("functionCall", "function") if isinstance(item.get(key), dict)), item)


def _is_named(value: dict[str, JsonValue], *types: str) -> bool:
    return value.get("type") in types and isinstance(value.get("name"), str)


def _names(holder: JsonValue) -> Iterator[str]:
    if isinstance(holder, dict) and isinstance(holder.get("name"), str):
        yield holder["name"]


def read_calls(value: JsonValue) -> tuple[ToolCall, ...]:
    """Calls in OpenAI's form: a list of them, or an object with `tool_calls`; empty if anything else is there."""
    items = value.get("tool_calls") if isinstance(value, dict) else value
    if not isinstance(items, list):
        return ()
    calls = [_read_call(item) for item in items]
    return tuple(call for call in calls if call) if all(calls) else ()


def _read_call(item: JsonValue) -> ToolCall | None:
    function = item.get("function") if isinstance(item, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", "{}")
    return ToolCall(function["name"], arguments if isinstance(arguments, str) else json_text(arguments))
