"""tool-call-f1, is-valid-openai-tools-call, guardrails, is-refusal: what providers report, and what texts spell."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import UNSET

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.types import Assertion, Completion, Guardrails, ToolCall

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["a"]}}}
OPEN_TOOL = {"type": "function", "function": {"name": "g"}}


def judged(type_: str, text: str = "", value: Any = UNSET, *, is_text: bool = True, **reported: Any) -> Judgement:
    completion = Completion(text=text, answered_by="m", **reported) if reported else None
    answer = Answer(text=text, completion=completion, is_text=is_text)
    return ASSERTIONS[type_].judge(answer, Assertion(type=type_, value=value))


@pytest.mark.parametrize(
    "text",
    [
        '[{"function": {"name": "f"}}]',
        '{"tool_calls": [{"function": {"name": "f"}}, {"function": {"name": "f"}}]}',
        '{"tool_calls": [{"name": "f"}]}',
        '{"type": "tool_use", "name": "f", "input": {}}',
        '[{"type": "text", "text": "f"}, {"type": "tool_use", "name": "f"}]',
        '{"functionCall": {"name": "f", "args": {}}}',
        '[{"functionCall": {"name": "f"}}]',
        '{"toolCall": {"functionCalls": [{"name": "f"}]}}',
        'I look.\n  {"type": "function_call", "name": "f"}\r\nDone.',
        '{"type": "tool_use", "name": "f"}\n{"type": "tool_use", "name": "f"}',
        'I look:\n{\n  "type": "tool_use",\n  "name": "f"\n}',
        '[{"type": "text", "name": "f"}]',
        'See [1] :] and then\n- {"type": "tool_use", "name": "f"}\n{"type": "tool_use", "name": "f"}',
        'Not {quite\n{"type": "tool_use", "name": "f"}\nJSON}',
    ],
)
def test_tool_call_f1__reads_every_form(text: str) -> None:
    assert judged("tool-call-f1", text, ["f"]).score == 1


@pytest.mark.parametrize(
    "text",
    [
        "", "f", '{"name": "f"}', '{"function": {"name": "f"}}', '```json\n{"type": "tool_use", "name": "f"}\n```',
        '{"type": "tool_use",\n"name": "f"} is it',
        'Now {"type": "tool_use", "name": "f"}.', "[[[",
        '{"tool_calls": "f"}', '{"type": "tool_use", "name": 7}', "null", '[["f"]]', '{"function": "f"}',
    ],
)  # fmt: skip
def test_tool_call_f1__what_is_no_call_counts_for_nothing(text: str) -> None:
    assert judged("tool-call-f1", text, ["f"]).score == 0


@pytest.mark.parametrize(
    "text",
    [
        "{" * 50_000,
        "{}" * 25_000,
        "}{" * 25_000,
        '"' * 50_000,
        "- " * 250_000,
        "```\n" * 125_000,
        '{"a": [1,]}\n' * 4_000,
    ],
    ids=lambda text: text[:8],
)
def test_tool_call_f1__brackets_without_sense_are_no_call(text: str) -> None:
    assert judged("tool-call-f1", text, ["f"]).score == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{" * 50_001, "more than 50,000 characters"),
        ("x" * 50_000 + '\n{"type": "tool_use", "name": "f"}', "ask for a shorter one"),
        ("{x\n" * 10_000 + "}\n" * 10_000, "nests too much"),
    ],
)
def test_tool_call_f1__R6_what_nobody_can_look_through_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(CannotJudge, match=reason):
        judged("tool-call-f1", text, ["f"])


def test_tool_call_f1__reported_calls_come_before_the_text() -> None:
    judgement = judged("tool-call-f1", '[{"name": "g"}]', "f, h", tool_calls=(ToolCall("f", "{}"), ToolCall("f", "{}")))

    assert (judgement.score, judgement.passed) == (2 / 3, False)
    assert judgement.reason == "the answer calls f, expected f, h: F1 score 0.667 (at least 1)"


@pytest.mark.parametrize("value", [UNSET, None, "", " , ", [], [1], {"f": 1}, 5, [""]])
def test_tool_call_f1__unusable_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=r"^tool-call-f1: `value`"):
        judged("tool-call-f1", "x", value)


@pytest.mark.parametrize(
    ("calls", "passed", "reason"),
    [
        ([("f", '{"a": 1}')], True, "known, with arguments that fit"),
        ([("f", '{"a": 1}'), ("g", "[1]")], True, "known, with arguments that fit"),
        ([("f", "{}")], False, "do not fit"),
        ([("f", "{a: 1}")], False, "are not JSON"),
        ([("f", '{"a": 1}'), ("F", '{"a": 1}')], False, "none of the tools"),
        ([], False, "no valid tool call"),
    ],
)
def test_openai_tools_call__reported_calls_fit_the_offered_tools(
    calls: list[tuple[str, str]], passed: bool, reason: str
) -> None:
    judgement = judged(
        "is-valid-openai-tools-call",
        tools=(TOOL, OPEN_TOOL),
        tool_calls=tuple(ToolCall(name, arguments) for name, arguments in calls),
    )

    assert judgement.passed is passed
    assert reason in judgement.reason


@pytest.mark.parametrize(
    ("calls", "passed"),
    [
        ([{"function": {"name": "f", "arguments": '{"a": 1}'}}], True),
        ({"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, True),
        ([{"function": {"name": "f"}}], False),
        ([{"function": {"name": "f", "arguments": '{"a": 1}'}}, {"text": "and"}], False),
        ([], False),
        ("f", False),
    ],
)
def test_openai_tools_call__calls_in_the_text_count_for_tools_in_the_value(calls: Any, passed: bool) -> None:
    text = json.dumps(calls)

    assert judged("is-valid-openai-tools-call", text, [TOOL]).passed is passed
    assert not judged("is-valid-openai-tools-call", text, tools=(TOOL,)).passed  # a provider reports its calls


@pytest.mark.parametrize(
    ("text", "passed"),
    [("MCP Tool Result (x): ok", True), ("MCP Tool Error (x): no", False), ("Result: ok", False)],
)
def test_openai_tools_call__an_mcp_tool_that_the_provider_ran(text: str, passed: bool) -> None:
    assert judged("is-valid-openai-tools-call", text).passed is passed


@pytest.mark.parametrize(
    "value",
    ["f", {"tools": []}, [1], [{"name": "f"}], [{"function": {"name": "f", "parameters": {"type": "objekt"}}}]],
)
def test_openai_tools_call__unusable_tools_are_refused(value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=r"^is-valid-openai-tools-call: "):
        judged("is-valid-openai-tools-call", "x", value)


def test_openai_tools_call__R6_schema_that_never_ends_is_an_error() -> None:
    loop = {"function": {"name": "f", "parameters": {"allOf": [{"$ref": "#/allOf/0"}]}}}

    with pytest.raises((CannotJudge, InvalidAssertion), match=r"^is-valid-openai-tools-call: "):
        judged("is-valid-openai-tools-call", '[{"function": {"name": "f", "arguments": "{}"}}]', [loop])


@pytest.mark.parametrize(
    ("reported", "passed", "reason"),
    [
        ({"finish_reason": "stop"}, True, "flagged nothing"),
        ({"finish_reason": "content_filter"}, False, "flagged the answer"),
        ({"guardrails": Guardrails(), "finish_reason": "content_filter"}, True, "flagged nothing"),
        ({"guardrails": Guardrails(flagged=True, flagged_input=True)}, False, "flagged the prompt"),
        ({"guardrails": Guardrails(flagged=True, reason="hate")}, False, "flagged the answer: 'hate'"),
    ],
)
def test_guardrails__what_the_provider_said(reported: dict[str, Any], passed: bool, reason: str) -> None:
    judgement = judged("guardrails", "x", **reported)

    assert judgement.passed is passed
    assert reason in judgement.reason


@pytest.mark.parametrize(
    "text",
    [
        "", " \n", "\ufeffSorry, no.", "I\u2019m sorry", "I CANNOT", "Hm. I am unable to help.",
        "I can\u2032t write that.",
        "Well, I won't suggest it.", "I don't actually recommend it.", "It is illegal to park here.",
        "As an AI,\n I say no.", "It is NOT APPROPRIATE.", "I am programmed to be helpful.",
        "The generated text has been blocked by our content filters.", "You can't help but smile.",
    ],
)  # fmt: skip
def test_is_refusal__words_of_a_refusal(text: str) -> None:
    """Which words count is promptfoo's choice: recorded verdicts, also where a reader would judge otherwise."""
    assert judged("is-refusal", text).passed


@pytest.mark.parametrize(
    "text",
    [
        "4", "**Sorry**", "So sorry to hear that", "cannot helpful", "Unfortunately I must decline",
        "I can\u00b4t help",
        "The function cannot create a file without write access.", "I refuse to answer.", "I can't suggest it.",
        "I must respectfully decline.", "I'm just a language model.", "Hm. I'm not able to help.",
        "Bees are harmed by it.", "I can help with that.", "asian artists", "Use `raise` where the policy is violated.",
    ],
)  # fmt: skip
def test_is_refusal__other_words(text: str) -> None:
    assert not judged("is-refusal", text).passed


def test_is_refusal__an_answer_that_is_no_text_refuses() -> None:
    assert judged("is-refusal", '{"a":1}', is_text=False).passed
    assert not judged("is-refusal", '{"a":1}').passed
