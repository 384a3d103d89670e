"""`is-valid-openai-tools-call`: every tool call names a tool that was offered, with arguments that fit it."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Struct

from evals.assertions import Answer, Judgement, assertion
from evals.assertions._conformity import Conformity, judge_by, schema_of
from evals.assertions._tool_calls import read_calls
from evals.assertions._values import quoted
from evals.errors import InvalidAssertion
from evals.javascript import NotJson, parse_json
from evals.types import Assertion, JsonValue, ToolCall

if TYPE_CHECKING:
    from evals.schemas import Schema

    Tools = dict[str, Schema | None]

# How a provider that runs tools of MCP servers by itself tells what came of it.
_MCP_WORKED, _MCP_FAILED = "MCP Tool Result", "MCP Tool Error"


class _Function(Struct, frozen=True):
    name: str
    parameters: dict[str, Any] | None = None


class _Tool(Struct, frozen=True):
    function: _Function


def require_tools(spec: Assertion) -> Tools | None:
    """The tools in the value, by name; None without a value. Raises InvalidAssertion."""
    if spec.value is UNSET or spec.value is None:
        return None
    if not isinstance(spec.value, list | tuple):
        raise InvalidAssertion(f"{spec.type}: `value` must be a list of tools in OpenAI's form; leave it out otherwise")
    return _read_tools(spec.value, type_=spec.type)


@assertion("is-valid-openai-tools-call", check=require_tools, slow=True)
def is_valid_openai_tools_call(answer: Answer, spec: Assertion) -> Judgement | Awaitable[Judgement]:
    """The answer calls tools, each known and with arguments that fit; `value` may list the tools."""
    tools, calls = _tools_of(answer, spec), _calls_of(answer, spec)
    if not calls:
        return _judge_text(answer.text)
    return judge_by(lambda: _judge(calls, tools, spec), *tools.values())


def _judge(calls: Sequence[ToolCall], tools: Tools, spec: Assertion) -> Judgement:
    conformity = Conformity(spec)
    problem = next((problem for call in calls if (problem := _problem_with(call, tools, conformity))), None)
    if problem:
        return Judgement(passed=False, score=0.0, reason=problem)
    return Judgement(passed=True, score=1.0, reason="the answer calls tools that are known, with arguments that fit")


def _read_tools(value: list[JsonValue] | tuple[JsonValue, ...], *, type_: str) -> Tools:
    try:
        functions = [tool.function for tool in msgspec.convert(value, list[_Tool])]
    except msgspec.ValidationError as error:
        raise InvalidAssertion(
            f"{type_}: a tool must look like {{type: function, function: {{name, parameters}}}}: {error}"
        ) from None
    try:
        return {f.name: None if f.parameters is None else schema_of(f.parameters) for f in functions}
    except InvalidAssertion as error:
        raise InvalidAssertion(f"{type_}: the parameters of a tool: {error.message}") from None


def _tools_of(answer: Answer, spec: Assertion) -> Tools:
    named = require_tools(spec)
    if named is not None:
        return named
    return _read_tools(answer.completion.tools, type_=spec.type) if answer.completion else {}


def _calls_of(answer: Answer, spec: Assertion) -> tuple[ToolCall, ...]:
    """The calls that the provider reported; for tools in `value`, those that the text spells as JSON too."""
    reported = answer.completion.tool_calls if answer.completion else ()
    if reported or spec.value is UNSET or spec.value is None:
        return reported
    try:
        return read_calls(parse_json(answer.text))
    except NotJson:
        return ()


def _judge_text(text: str) -> Judgement:
    worked = _MCP_WORKED in text and _MCP_FAILED not in text
    return Judgement(
        passed=worked,
        score=float(worked),
        reason="an MCP tool was called and answered" if worked else "the answer holds no valid tool call",
    )


def _problem_with(call: ToolCall, tools: Tools, conformity: Conformity) -> str | None:
    if not tools:
        return "the answer calls tools, but none were offered"
    if call.name not in tools:
        return f"the answer calls {quoted(call.name)}, which is none of the tools"
    try:
        arguments = parse_json(call.arguments)
    except NotJson as error:
        return f"the arguments for {quoted(call.name)} are not JSON: {error}"
    schema = tools[call.name]
    problem = conformity.problem_with(arguments, schema) if schema else None
    return f"the arguments for {quoted(call.name)} do not fit: {problem}" if problem else None
