"""`tool-called`: a tool was called, so often, and with these arguments."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._tool_calls import names_in
from evals.errors import InvalidAssertion
from evals.types import Assertion, JsonValue, ToolCall

_KEYS: Final = ("name", "arguments", "min", "max")
_MOST_CALLS: Final = 10_000
_SHOWN_NAMES: Final = 10


class Wanted(Struct, frozen=True, kw_only=True):
    """What must have been called. Each of `arguments` must be there and equal; others may be there too."""

    name: str
    arguments: dict[str, JsonValue]
    fewest: int
    most: int | None


def require_call(spec: Assertion) -> Wanted:
    """A tool's name, or {name, arguments, min, max}. Raises InvalidAssertion."""
    value = spec.value
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, dict) or not isinstance(value.get("name"), str) or not value["name"].strip():
        raise InvalidAssertion(f"{spec.type}: `value` must be a tool's name, or an object with a `name`")
    if unknown := [str(key)[:60] for key in value if key not in _KEYS]:
        raise InvalidAssertion(f"{spec.type}: `value` knows {', '.join(_KEYS)}, not {unknown[0]}")
    arguments = value.get("arguments", {})
    if not isinstance(arguments, dict) or not all(isinstance(key, str) for key in arguments):
        raise InvalidAssertion(f"{spec.type}: `arguments` must be an object")
    most = _count(spec, value, "max", default=None)
    fewest = _count(spec, value, "min", default=1 if most != 0 else 0)
    if most is not None and fewest is not None and fewest > most:
        raise InvalidAssertion(f"{spec.type}: `min` must not be larger than `max`")
    return Wanted(name=value["name"].strip(), arguments=arguments, fewest=fewest or 0, most=most)


def _count(spec: Assertion, value: dict[str, Any], key: str, *, default: int | None) -> int | None:
    count = value.get(key, default)
    if count is not None and (type(count) is not int or not 0 <= count <= _MOST_CALLS):
        raise InvalidAssertion(f"{spec.type}: `{key}` must be a whole number from 0 to {_MOST_CALLS:,}")
    return count


@assertion("tool-called", check=require_call)
def tool_called(answer: Answer, spec: Assertion) -> Judgement:
    """The tool in `value` was called, with the arguments and as often as it says; calls that were refused are none."""
    wanted = require_call(spec)
    calls = answer.completion.tool_calls if answer.completion else ()
    if not calls and not wanted.arguments:
        count = int(wanted.name in names_in(answer))  # spelt in the text, as some models do
    else:
        count = sum(_fits(call, wanted) for call in calls)
    passed = wanted.fewest <= count and (wanted.most is None or count <= wanted.most)
    return Judgement(passed=passed, score=float(passed), reason=_reason(wanted, count, calls))


def _fits(call: ToolCall, wanted: Wanted) -> bool:
    if call.refused or call.name != wanted.name:
        return False
    if not wanted.arguments:
        return True
    try:
        given = msgspec.json.decode(call.arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return isinstance(given, dict) and all(
        key in given and _equal(given[key], value) for key, value in wanted.arguments.items()
    )


def _equal(given: JsonValue, wanted: JsonValue) -> bool:
    """As JSON: true is not 1."""
    return given == wanted and isinstance(given, bool) == isinstance(wanted, bool)


def _reason(wanted: Wanted, count: int, calls: tuple[ToolCall, ...]) -> str:
    with_these = " with these arguments" if wanted.arguments else ""
    limits = f"at least {wanted.fewest}" if wanted.most is None else f"{wanted.fewest} to {wanted.most}"
    names = sorted({call.name for call in calls if not call.refused})
    shown = ", ".join(name[:60] for name in names[:_SHOWN_NAMES]) or "none"
    refused = sum(call.refused for call in calls)
    more = f"; {refused} refused" if refused else ""
    counted = f"{wanted.name[:60]} was called {count} times{with_these} (expected {limits})"
    return f"{counted}; tools that were called: {shown}{more}"
