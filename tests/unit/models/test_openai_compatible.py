"""The OpenAI-compatible backend beyond the backends' contract."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import msgspec
import pytest

from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment, Secret
from evals.models.openai_compatible import OpenAICompatible, completions_url, read_reply
from evals.types import Message
from tests.standins.model_server import ModelServer, model_server

REQUEST = CompletionRequest(messages=(Message("user", "case 0001"),), timeout_seconds=5.0)


def a_deployment(server: ModelServer | None = None, **changes: Any) -> Deployment:
    base_url = server.base_url if server else "http://127.0.0.1:1"
    return Deployment(
        **{"id": "d", "backend": "openai_compatible", "model": "mock-a", "price": None, "base_url": base_url} | changes
    )


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("http://localhost:4000", "http://localhost:4000/v1/chat/completions"),
        ("http://localhost:4000/", "http://localhost:4000/v1/chat/completions"),
        ("http://localhost:4000/v1", "http://localhost:4000/v1/chat/completions"),
        ("https://host/api/openai/", "https://host/api/openai/chat/completions"),
    ],
)
def test_url__without_a_path_gets_the_usual_one(base_url: str, url: str) -> None:
    assert completions_url(base_url) == url


async def test_server__sends_what_was_asked_for_and_nothing_else() -> None:
    backend = OpenAICompatible()
    request = CompletionRequest(
        messages=(Message("system", "s"), Message("user", "u")),
        temperature=0.5,
        max_tokens=7,
        json_object=True,
    )
    async with model_server() as server:
        await backend.complete(request, a_deployment(server))
        await backend.complete(REQUEST, a_deployment(server))
        await backend.aclose()

    first, second = server.mock.last_bodies
    assert first == {
        "model": "mock-a",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "response_format": {"type": "json_object"},
    }
    assert set(second) == {"model", "messages", "max_tokens"}


async def test_server__key_travels_in_the_header_of_its_own_deployment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    backend = OpenAICompatible()
    async with model_server() as server:
        await backend.complete(REQUEST, a_deployment(server, key=Secret("sk-mine")))
        await backend.complete(REQUEST, a_deployment(server))
        await backend.aclose()

    assert list(server.mock.last_keys) == ["Bearer sk-mine", ""]
    assert "sk-mine" not in str(server.mock.last_bodies)


async def test_server__options_change_the_request() -> None:
    backend = OpenAICompatible()
    async with model_server() as server:
        await backend.complete(REQUEST, a_deployment(server, options={"body": {"seed": 7, "max_tokens": 3}}))
        await backend.aclose()

    (body,) = server.mock.last_bodies
    assert (body["seed"], body["max_tokens"]) == (7, 3)


async def test_server__I17_gzip_bomb_is_left_half_read() -> None:
    backend = OpenAICompatible()
    async with model_server() as server:
        # The first call brings what is loaded once.
        await backend.complete(REQUEST, a_deployment(server))
        tracemalloc.start()
        try:
            with pytest.raises(ProviderError, match="more than 4 MB"):
                await backend.complete(REQUEST, a_deployment(server, model="bomb-20-a"))
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        await backend.aclose()

    # The server in this process holds the 20 MB once while it packs them (and a copy); the client adds no third.
    assert taken < 50 * 2**20


@pytest.mark.parametrize("base_url", [None, "", "nonsense", "ftp://host/v1", "http://", "http://[::bad"])
async def test_server__address_that_is_none_is_a_provider_error(base_url: str | None) -> None:
    backend = OpenAICompatible()

    with pytest.raises(ProviderError):
        await backend.complete(REQUEST, a_deployment(base_url=base_url))

    await backend.aclose()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": 7}}]}',
        b'{"choices": [{"message": {"content": "\xff"}}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b'{"choices": ' + b"[" * 100_000,
        b'{"error": {"message": "no"}}',
    ],
)
def test_reply__I17_that_is_no_completion_is_a_provider_error(content: bytes) -> None:
    with pytest.raises(ProviderError) as caught:
        read_reply(content, a_deployment())

    assert caught.value.retryable


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        (b'{"prompt_tokens": 3, "completion_tokens": 0}', (3, 0)),
        (b'{"prompt_tokens": 3}', (3, None)),
        (b"null", (None, None)),
        (b'"many"', (None, None)),
        (b'{"prompt_tokens": -1, "completion_tokens": 1e99}', (None, None)),
        (b'{"prompt_tokens": true, "completion_tokens": 99999999999999999999}', (None, None)),
    ],
)
def test_reply__I17_odd_counts_are_unknown_and_do_not_cost_the_answer(
    usage: bytes, counts: tuple[int | None, int | None]
) -> None:
    completion = read_reply(b'{"choices": [{"message": {"content": "a"}}], "usage": %s}' % usage, a_deployment())

    assert completion.text == "a"
    assert (completion.input_tokens, completion.output_tokens) == counts


@pytest.mark.parametrize("is_first", [True, False])
async def test_server__gets_nothing_of_a_call_that_is_not_allowed_any_more_once_it_is_connected(is_first: bool) -> None:
    backend = OpenAICompatible()

    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    async with model_server() as server:
        if not is_first:  # then the connection is used again
            await backend.complete(REQUEST, a_deployment(server))
        asked = len(server.mock.last_bodies)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await backend.complete(msgspec.structs.replace(REQUEST, allowed=never), a_deployment(server))
        await backend.aclose()

    assert len(server.mock.last_bodies) == asked
