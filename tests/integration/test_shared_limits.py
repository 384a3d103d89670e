"""Two workers on the same deployments: their pools meet in Redis. The providers are the mock server."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from evals.catalogue import Catalogue, Model
from evals.models import CompletionRequest, Deployment
from evals.pool import ModelPool
from evals.types import Completion, Message
from server.embedded import start_valkey
from server.services.limits import SharedLimits
from server.tasks.wakeups import connect_redis
from tests.standins.model_server import ModelServer, model_server


def deployments(server: ModelServer, *models: str, max_in_flight: int = 50) -> tuple[Deployment, ...]:
    return tuple(
        Deployment(
            id=f"mock/{model}",
            backend="openai_compatible",
            model=model,
            price=None,
            base_url=server.base_url,
            max_in_flight=max_in_flight,
            rank=1,
        )
        for model in models
    )


@asynccontextmanager
async def two_workers(redis_url: str, *pool: Deployment) -> AsyncIterator[list[ModelPool]]:
    """The pools of two workers. They share nothing in this process."""
    prefix = f"{{{secrets.token_hex(4)}}}:"
    catalogue = Catalogue(default="model", models=[Model(name="model", deployments=pool)])
    limits = [SharedLimits(connect_redis(redis_url, attempts=0), prefix=prefix) for _ in range(2)]
    async with ModelPool(catalogue, limits=limits[0]) as one, ModelPool(catalogue, limits=limits[1]) as other:
        yield [one, other]


async def ask_both(workers: list[ModelPool], *, calls: int) -> list[Completion]:
    """So many calls, half of them by each worker, all at once."""
    return await asyncio.gather(
        *(
            workers[number % 2].complete(
                "model", CompletionRequest(messages=(Message("user", f"case {number}"),), timeout_seconds=30.0)
            )
            for number in range(calls)
        )
    )


async def test_shared_limits__calls_of_two_workers_are_spread_over_two_deployments(redis_url: str) -> None:
    async with model_server(latency_ms=20) as server:
        pool = deployments(server, "mock-a", "mock-b", max_in_flight=6)
        async with two_workers(redis_url, *pool) as workers:
            await ask_both(workers, calls=80)

        # The limit holds for both workers together, and neither deployment is left idle.
        assert server.mock.max_by_model["mock-a"] <= 6
        assert server.mock.max_by_model["mock-b"] <= 6
        assert min(server.mock.by_model.values()) >= 25
        assert sum(server.mock.by_model.values()) == 80


async def test_shared_limits__what_one_worker_found_broken_the_other_leaves_alone(redis_url: str) -> None:
    async with model_server(latency_ms=5) as server:
        pool = deployments(server, "mock-a", "status-500-a")
        async with two_workers(redis_url, *pool) as workers:
            first = await asyncio.gather(*(workers[0].complete("model", a_request(n)) for n in range(40)))
            wasted = server.mock.by_model["status-500-a"]
            second = await asyncio.gather(*(workers[1].complete("model", a_request(n)) for n in range(40)))

        assert {completion.answered_by for completion in (*first, *second)} == {"mock-a"}
        # Those that were under way when the eighth failed, and none by the other worker.
        assert 8 <= wasted <= 16
        assert server.mock.by_model["status-500-a"] == wasted


def a_request(number: int) -> CompletionRequest:
    return CompletionRequest(messages=(Message("user", f"case {number}"),), timeout_seconds=30.0)


async def test_shared_limits__a_providers_limit_is_found_once_for_both_workers(redis_url: str) -> None:
    async with model_server(latency_ms=5) as server:
        pool = deployments(server, "rl-20-a")
        started = time.monotonic()
        async with two_workers(redis_url, *pool) as workers:
            completions = await ask_both(workers, calls=50)

        assert len(completions) == 50
        assert server.mock.by_status[429] < 15
        assert time.monotonic() - started < 6.0


async def test_shared_limits__redis_goes_and_comes_and_no_call_is_lost(server_folder: Path) -> None:
    folder = server_folder / secrets.token_hex(3)
    valkey = start_valkey(folder)
    async with model_server(latency_ms=5) as server:
        async with two_workers(valkey.url, *deployments(server, "mock-a")) as workers:
            before = await ask_both(workers, calls=10)
            valkey.stop()
            started = time.monotonic()
            without = await ask_both(workers, calls=40)
            seconds = time.monotonic() - started
            valkey = start_valkey(folder)
            await asyncio.sleep(1.1)  # after which it is asked again
            after = await ask_both(workers, calls=10)
        valkey.stop()

    assert len([*before, *without, *after]) == 60
    assert seconds < 3.0
    assert Counter(completion.answered_by for completion in without) == {"mock-a": 40}


async def test_shared_limits__slot_of_a_caller_that_was_cancelled_is_free_again(redis_url: str) -> None:
    async with model_server() as server:
        pool = deployments(server, "slow-60000-a", max_in_flight=1)
        async with two_workers(redis_url, *pool) as workers:
            held = asyncio.create_task(workers[0].complete("model", a_request(1)))
            while not server.mock.in_flight:
                await asyncio.sleep(0.01)
            held.cancel()
            await asyncio.gather(held, return_exceptions=True)

            other = asyncio.create_task(workers[1].complete("model", a_request(2)))
            async with asyncio.timeout(2):
                while server.mock.requests < 2:
                    await asyncio.sleep(0.01)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
