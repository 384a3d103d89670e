"""What every model backend promises, tried on each that the registry finds.

A new backend brings `tests/standins/backends/<its name>.py` with `deployment_for(situation, server)`, which
says how to get it there, or None for what cannot happen to it. Nothing here is edited.
"""

from __future__ import annotations

import asyncio
import importlib
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from msgspec.structs import replace

import evals
from evals.errors import ProviderError
from evals.models import BACKENDS, Backend, CompletionRequest, Deployment
from evals.types import Message
from tests.standins.model_server import ModelServer, model_server

SECRET_PROMPT = "the-prompt-that-nobody-may-see case 0042"
REQUEST = CompletionRequest(
    messages=(Message("system", "Be short."), Message("user", SECRET_PROMPT)), timeout_seconds=20.0
)


@pytest.fixture(params=list(BACKENDS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as running:
        yield running


@pytest_asyncio.fixture
async def backend(name: str) -> AsyncIterator[Backend]:
    made = BACKENDS[name]()
    await made.prepare()
    yield made
    await made.aclose()


def deployment_in(situation: str, name: str, server: ModelServer) -> Deployment:
    standin = importlib.import_module(f"tests.standins.backends.{name}")
    deployment = standin.deployment_for(situation, server)
    if deployment is None:
        pytest.skip(f"{situation} cannot happen to {name}")
    return deployment


async def refusal_of(backend: Backend, deployment: Deployment, request: CompletionRequest = REQUEST) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        await backend.complete(request, deployment)
    assert SECRET_PROMPT not in caught.value.message
    assert "sk-contract" not in caught.value.message
    assert caught.value.message.startswith(deployment.id)
    assert len(caught.value.message) < 300
    return caught.value


async def test_backend__answers_with_text_counts_and_who_answered(
    name: str, backend: Backend, server: ModelServer
) -> None:
    deployment = deployment_in("answers", name, server)

    completion = await backend.complete(REQUEST, deployment)

    assert "0042" in completion.text
    assert completion.answered_by
    assert completion.finish_reason == "stop"
    assert (completion.input_tokens or 0) > 0
    assert (completion.output_tokens or 0) > 0
    assert completion.cost_usd is None, "prices are the pool's"


async def test_backend__is_prepared_and_closed_twice_without_harm(
    name: str, backend: Backend, server: ModelServer
) -> None:
    await backend.prepare()
    await backend.aclose()
    await backend.aclose()

    completion = await backend.complete(REQUEST, deployment_in("answers", name, server))

    assert "0042" in completion.text


async def test_backend__server_error_is_worth_another_try(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("http_500", name, server)

    error = await refusal_of(backend, deployment)

    assert (error.retryable, error.status, error.timed_out) == (True, 500, False)
    assert server.mock.requests <= 1, "retries are the pool's"


async def test_backend__rate_limit_says_when_to_come_back(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("rate_limited", name, server)
    server.mock.retry_after = "7"

    error = await refusal_of(backend, deployment)

    assert (error.retryable, error.status, error.retry_after_seconds) == (True, 429, 7.0)
    assert server.mock.requests == 1


async def test_backend__refused_key_is_not_tried_again(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("refuses_the_key", name, server)

    error = await refusal_of(backend, deployment)

    assert (error.retryable, error.status) == (False, 401)


async def test_backend__time_out_ends_the_call_in_time(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("times_out", name, server)
    started = time.monotonic()

    error = await refusal_of(backend, deployment, replace(REQUEST, timeout_seconds=0.2))

    assert error.timed_out
    assert time.monotonic() - started < 2.0


async def test_backend__I17_endless_body_ends_by_the_time_limit(
    name: str, backend: Backend, server: ModelServer
) -> None:
    deployment = deployment_in("endless", name, server)
    started = time.monotonic()

    error = await refusal_of(backend, deployment, replace(REQUEST, timeout_seconds=0.3))

    assert error.timed_out
    assert time.monotonic() - started < 2.0


async def test_backend__I17_body_of_100_MB_is_not_read(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("huge", name, server)

    error = await refusal_of(backend, deployment)

    assert not error.retryable
    assert "more than 4 MB" in error.message


async def test_backend__I17_broken_json_is_a_provider_error(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("nonsense", name, server)

    error = await refusal_of(backend, deployment)

    assert error.retryable


async def test_backend__I17_page_in_place_of_json_is_a_provider_error(
    name: str, backend: Backend, server: ModelServer
) -> None:
    await refusal_of(backend, deployment_in("html", name, server))


async def test_backend__I17_missing_counts_stay_unknown(name: str, backend: Backend, server: ModelServer) -> None:
    deployment = deployment_in("no_counts", name, server)

    completion = await backend.complete(REQUEST, deployment)

    assert "0042" in completion.text
    assert completion.input_tokens is None
    assert completion.output_tokens is None


async def test_backend__I17_tool_call_that_nobody_asked_for_is_an_empty_answer(
    name: str, backend: Backend, server: ModelServer
) -> None:
    deployment = deployment_in("tools_unasked", name, server)

    completion = await backend.complete(REQUEST, deployment)

    assert completion.text == ""
    assert completion.finish_reason == "tool_calls"


async def test_backend__unreachable_server_is_worth_another_try(
    name: str, backend: Backend, server: ModelServer
) -> None:
    deployment = deployment_in("unreachable", name, server)

    error = await refusal_of(backend, deployment)

    assert error.retryable


async def test_backend__cancellation_is_passed_on_and_frees_the_server(
    name: str, backend: Backend, server: ModelServer
) -> None:
    deployment = deployment_in("times_out", name, server)
    call = asyncio.create_task(backend.complete(REQUEST, deployment))
    await asyncio.sleep(0.1)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    async with asyncio.timeout(2):
        while server.mock.in_flight:
            await asyncio.sleep(0.01)


PARROT = '''
"""Says everything three times."""

from evals.models import CompletionRequest, Deployment, backend
from evals.types import Completion


@backend("parrot")
class Parrot:
    async def prepare(self) -> None: ...

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        return Completion(text=request.messages[-1].content * 3, answered_by=deployment.model)

    async def aclose(self) -> None: ...
'''

ASK_THE_PARROT = """
import asyncio
from evals.catalogue import load_catalogue
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Message

CATALOGUE = '''
default: polly
models:
  polly:
    context_tokens: 10
    deployments: [{backend: parrot, model: polly-1, free: true}]
'''

async def main() -> None:
    async with ModelPool(load_catalogue(CATALOGUE, environ={})) as pool:
        await pool.prepare()
        completion = await pool.complete("polly", CompletionRequest(messages=(Message("user", "ha"),)))
        print(completion.text, completion.answered_by, completion.cost_usd)

asyncio.run(main())
"""


def test_backends__new_file_is_found_and_usable_from_a_catalogue(tmp_path: Path) -> None:
    package = Path(evals.__file__).parent
    shutil.copytree(package, tmp_path / "evals", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "evals" / "models" / "parrot.py").write_text(PARROT, encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-c", ASK_THE_PARROT],
        cwd=tmp_path,  # `-c` puts the working folder first on the path
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert run.stderr == ""
    assert run.stdout == "hahaha polly-1 0.0\n"
