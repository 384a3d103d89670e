"""The mock model server keeps its word: benchmarks and tests of statistics count on its known truth."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from tests.standins.model_server import ModelServer, model_server, model_server_in_thread


async def ask(session: aiohttp.ClientSession, server: ModelServer, model: str, prompt: str) -> tuple[int, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}]}
    async with session.post(f"{server.base_url}/chat/completions", json=body) as response:
        return response.status, await response.json(content_type=None)


async def texts_of(server: ModelServer, model: str, prompts: list[str]) -> list[str]:
    async with aiohttp.ClientSession() as session:
        replies = [await ask(session, server, model, prompt) for prompt in prompts]
    return [reply["choices"][0]["message"]["content"] for _, reply in replies]


PROMPTS = [f"case {number:04}" for number in range(200)]


async def test_mock__answers_right() -> None:
    async with model_server() as server:
        texts = await texts_of(server, "mock-a", PROMPTS[:3])

    assert [text.split()[0] for text in texts] == ["ANSWER-0000", "ANSWER-0001", "ANSWER-0002"]


async def test_mock__flaky_model_is_right_at_its_rate_and_differs_from_call_to_call() -> None:
    async with model_server() as server:
        texts = await texts_of(server, "flaky-0.8-a", PROMPTS[:1] * 300)

    assert 0.72 < sum(text.startswith("ANSWER") for text in texts) / 300 < 0.88


async def test_mock__weak_model_fails_the_same_prompts_every_time() -> None:
    async with model_server() as server:
        first = await texts_of(server, "weak-0.9-a", PROMPTS)
        second = await texts_of(server, "weak-0.9-a", PROMPTS)

    assert first == second
    assert 0.83 < sum(text.startswith("ANSWER") for text in first) / 200 < 0.97


async def test_mock__err_model_fails_at_its_rate() -> None:
    async with model_server() as server, aiohttp.ClientSession() as session:
        statuses = [(await ask(session, server, "err-0.5-a", prompt))[0] for prompt in PROMPTS]

    assert set(statuses) == {200, 500}
    assert 70 < statuses.count(500) < 130


async def test_mock__rate_limited_model_refuses_what_is_too_much() -> None:
    async with model_server() as server, aiohttp.ClientSession() as session:
        statuses = [(await ask(session, server, "rl-3-a", prompt))[0] for prompt in PROMPTS[:5]]

    assert statuses == [200, 200, 200, 429, 429]


async def test_mock__slow_model_takes_its_time() -> None:
    async with model_server() as server, aiohttp.ClientSession() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ask(session, server, "slow-200-a", "x")


async def test_mock__is_controlled_and_counted_over_http() -> None:
    async with model_server() as server, aiohttp.ClientSession() as session:
        wanted = {"fail_next": 1, "fail_status": 503, "retry_after": "9", "answers": ["as told"]}
        async with session.post(f"{server.url}/__config", json=wanted) as response:
            assert response.status == 200
        assert (await ask(session, server, "mock-a", "x"))[0] == 503
        assert (await ask(session, server, "mock-a", "x"))[1]["choices"][0]["message"]["content"] == "as told"
        async with session.get(f"{server.url}/__stats") as response:
            stats = await response.json()
        await (await session.post(f"{server.url}/__reset")).release()
        async with session.post(f"{server.url}/__config", json={"typo": 1}) as response:
            assert response.status == 400

    assert (stats["requests"], stats["by_status"]) == (2, {"503": 1, "200": 1})
    assert server.mock.requests == 0


def test_mock__runs_as_a_process_and_in_a_thread() -> None:
    command = [sys.executable, "-m", "benchmarks.mock_model", "--port", "0", "--latency-ms", "5"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        with model_server_in_thread() as other:
            for address in (url, other.url):
                assert asyncio.run(model_names(address))[0] == "mock-a"
    finally:
        process.terminate()
        process.communicate(timeout=10)


async def model_names(url: str) -> list[str]:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models") as response:
        return [model["id"] for model in (await response.json())["data"]]
