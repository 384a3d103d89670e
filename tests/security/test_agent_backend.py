"""What every backend promises (tests/contracts/test_backends.py), of the one that runs agents."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from evals.errors import ProviderError
from evals.models import BACKENDS, CompletionRequest
from evals.pool import ModelPool
from evals.types import Message
from tests.agents import a_catalogue, a_claude_agent, a_command, a_model, a_skill, a_task, ask, needs_sandbox
from tests.standins.anthropic_server import KEY, MODEL, AnthropicServer, anthropic_server, call, script, text

pytestmark = needs_sandbox

PROMPT = "the-prompt-that-nobody-may-see"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[AnthropicServer]:
    async with anthropic_server() as running:
        yield running


async def refusal_of(server: AnthropicServer, **changes: object) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await ask(server, a_task(a_claude_agent("Help.")), PROMPT, **changes)
    message = caught.value.message
    assert message.startswith("claude_agent/standin")
    assert PROMPT not in message
    assert KEY not in message
    return caught.value


async def test_agent__answers_with_text_counts_turns_and_who_answered(server: AnthropicServer) -> None:
    server.play = script([text("I look."), call("Glob", pattern="**/*.md")], [text("One file.")])

    completion = await ask(server, a_task(a_claude_agent("You count files.")), "How many?")

    assert completion.text == "One file."
    assert completion.answered_by == MODEL
    assert completion.finish_reason == "stop"
    assert (completion.input_tokens, completion.output_tokens, completion.turns) == (200, 20, 2)
    assert completion.cost_usd is None, "prices are the pool's"
    assert [used.name for used in completion.tool_calls] == ["Glob"]
    assert {tool["function"]["name"] for tool in completion.tools} == {"Glob", "Grep", "Read"}
    assert "You count files." in str(server.requests[0]["system"])
    assert server.requests[0]["max_tokens"] == 1024


async def test_agent__a_skill_is_offered_and_a_command_is_expanded(server: AnthropicServer) -> None:
    await ask(server, a_task(a_skill("Body of the skill.")), "Help me.")
    await ask(server, a_task(a_command("Greet warmly: $ARGUMENTS")), "Ann")

    skill, command = server.requests
    assert "- helper: Helps" in str(skill["messages"])
    assert "Body of the skill." not in str(skill), "it is read when the model asks for it"
    assert "Greet warmly: Ann" in str(command["messages"])


async def test_agent__server_error_is_worth_another_try(server: AnthropicServer) -> None:
    server.status = 500

    error = await refusal_of(server)

    assert (error.retryable, error.status, error.timed_out) == (True, 500, False)
    assert len(server.requests) == 1, "retries are the pool's, before anything was answered"


async def test_agent__rate_limit_says_when_to_come_back(server: AnthropicServer) -> None:
    server.status, server.retry_after = 429, "7"

    error = await refusal_of(server)

    assert (error.retryable, error.status, error.retry_after_seconds) == (True, 429, 7.0)


async def test_agent__refused_key_is_not_tried_again(server: AnthropicServer) -> None:
    server.status = 401

    error = await refusal_of(server)

    assert (error.retryable, error.status) == (False, 401)


@pytest.mark.parametrize("raw", [b"{", b"<html>oops</html>", b"data: {}\n\n", b""])
async def test_agent__I17_what_is_no_message_is_a_provider_error(server: AnthropicServer, raw: bytes) -> None:
    server.raw = raw

    error = await refusal_of(server)

    assert error.retryable
    assert "no message" in error.message


async def test_agent__I17_an_answer_of_5_MB_is_not_read(server: AnthropicServer) -> None:
    server.raw = b"data: " + b"x" * (5 * 2**20)

    error = await refusal_of(server)

    assert not error.retryable
    assert "more than 4 MB" in error.message


async def test_agent__an_unreachable_server_is_worth_another_try(server: AnthropicServer) -> None:
    server.base_url = "http://127.0.0.1:9"

    assert (await refusal_of(server)).retryable


async def test_agent__trouble_in_the_middle_is_tried_again_there_and_not_from_the_start(
    server: AnthropicServer,
) -> None:
    said = script([call("Glob", pattern="*")], [text("Done.")])

    def play(body):  # type: ignore[no-untyped-def]  # a stand-in's answer
        server.fail_first = 2 if len(server.requests) == 1 else server.fail_first
        return said(body)

    server.play = play

    completion = await ask(server, a_task(a_claude_agent("Help.")))

    assert completion.text == "Done."
    assert [len(request["messages"]) for request in server.requests][1:] == [len(server.requests[1]["messages"])] * 2
    assert completion.turns == 2


async def test_agent__time_out_ends_it_in_time(server: AnthropicServer) -> None:
    server.latency_seconds = 30
    started = time.monotonic()

    error = await refusal_of(server, timeout_seconds=3.0)

    assert error.timed_out
    assert time.monotonic() - started < 5


async def test_agent__cancellation_frees_the_server(server: AnthropicServer) -> None:
    server.latency_seconds = 30
    running = asyncio.create_task(ask(server, a_task(a_claude_agent("Help."))))
    async with asyncio.timeout(20):
        while not server.in_flight:
            await asyncio.sleep(0.02)

    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    async with asyncio.timeout(2):
        while server.in_flight:
            await asyncio.sleep(0.02)


async def test_agent__answers_no_question_without_one(server: AnthropicServer) -> None:
    backend = BACKENDS["claude_agent"]()

    with pytest.raises(ProviderError, match="runs agents, and answers nothing else"):
        await backend.complete(CompletionRequest(messages=(Message("user", "q"),)), a_model(server).agents[0])

    await backend.aclose()
    await backend.aclose()


async def test_pool__an_agents_answer_is_priced_by_all_its_calls(server: AnthropicServer) -> None:
    server.play = script([call("Glob", pattern="*")], [text("Done.")])
    server.input_tokens, server.output_tokens = 1_000, 100
    request = CompletionRequest(
        messages=(Message("user", "q"),), agent=a_task(a_claude_agent("Help.")), timeout_seconds=60.0
    )

    async with ModelPool(a_catalogue(server)) as pool:
        completion = await pool.complete("claude", request)

    assert completion.cost_usd == pytest.approx(2 * (1_000 * 3 + 100 * 15) / 1e6)
    assert [attempt.deployment for attempt in completion.attempts] == ["claude_agent/standin"]
