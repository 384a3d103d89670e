"""Calls of tools: those that the provider reported, and those that an answer spells as JSON in its text."""

from __future__ import annotations

from collections.abc import Iterator

from evals.assertions import Answer
from evals.javascript import NotJson, json_text, parse_json
from evals.types import JsonValue, ToolCall

# Lines that are tried as JSON, and pieces that are looked at: an answer may be nothing but braces.
_MOST_LINES = 2_000
_MOST_PIECES = 10_000


def names_in(answer: Answer) -> frozenset[str]:
    """The names of the tools that the answer calls, reported or spelt in its text."""
    reported = answer.completion.tool_calls if answer.completion else ()
    if reported:
        return frozenset(call.name for call in reported)
    return frozenset(_names_in_text(answer.text))


def _names_in_text(text: str) -> Iterator[str]:
    """By the whole text if that is JSON, else by each line that is."""
    try:
        yield from _names_in_value(parse_json(text))
    except NotJson:
        for line in text.split("\n", _MOST_LINES)[:_MOST_LINES]:
            yield from _names_in_line(line.strip())


def _names_in_line(line: str) -> Iterator[str]:
    if not line.startswith(("{", "[")):
        return
    try:
        yield from _names_in_value(parse_json(line))
    except NotJson:
        return


def _names_in_value(value: JsonValue) -> Iterator[str]:
    """The names in the forms of OpenAI (chat and responses), Anthropic and Google; in a list a bare name counts."""
    if isinstance(value, list):
        for item in value[:_MOST_PIECES]:
            yield from _names_in_item(item, in_list=True)
    else:
        yield from _names_in_item(value, in_list=False)


def _names_in_item(item: JsonValue, *, in_list: bool) -> Iterator[str]:
    if not isinstance(item, dict):
        return
    calls = item.get("tool_calls")
    live = item.get("toolCall")  # Google's live API
    if isinstance(calls, list):
        for call in calls[:_MOST_PIECES]:
            yield from _name_of(call, bare=True)
    elif isinstance(live, dict) and isinstance(live.get("functionCalls"), list):
        for call in live["functionCalls"][:_MOST_PIECES]:
            yield from _name_of(call, bare=True)
    else:
        yield from _name_of(item, bare=in_list)


def _name_of(call: JsonValue, *, bare: bool) -> Iterator[str]:
    if not isinstance(call, dict):
        return
    inner = call.get("function", call.get("functionCall"))
    if isinstance(inner, dict):
        name = inner.get("name")
    elif call.get("type") in ("tool_use", "function_call") or (bare and "type" not in call):
        name = call.get("name")
    else:
        name = None
    if isinstance(name, str) and name:
        yield name


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
