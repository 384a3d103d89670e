"""Models under a hold: nothing is called for a job that may be another's by now."""

from __future__ import annotations

import asyncio
import time

import pytest

from evals.catalogue import load_catalogue
from evals.models import CompletionRequest
from evals.pool import ModelPool
from evals.types import Message
from server.services.holding import HeldModels, Hold

CATALOGUE = """
default: echo
models:
  echo:
    context_tokens: 1000
    deployments: [{backend: echo, model: echo-1, free: true}]
"""
# Port 9 is nobody's: each attempt is refused at once.
NOBODY = """
default: away
models:
  away:
    context_tokens: 1000
    deployments: [{backend: openai_compatible, model: m, base_url: "http://127.0.0.1:9/v1", free: true}]
"""
REQUEST = CompletionRequest(messages=(Message(role="user", content="hello"),))


async def test_held_models__answer_while_the_lease_is_sure():
    async with ModelPool(load_catalogue(CATALOGUE, environ={})) as models:
        held = HeldModels(models, Hold(sure_until=time.monotonic() + 60))

        assert (await held.complete("echo", REQUEST)).text == "hello"


async def test_held_models__call_nobody_once_it_is_not_and_wait_for_the_keeper():
    async with ModelPool(load_catalogue(CATALOGUE, environ={})) as models:
        held = HeldModels(models, Hold(sure_until=time.monotonic() - 0.001))

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await held.complete("echo", REQUEST)


async def test_held_models__a_lease_that_ends_in_the_pause_before_a_retry_ends_the_calls():
    hold = Hold(sure_until=time.monotonic() + 60)

    async def pause(_: float) -> None:
        hold.sure_until = time.monotonic() - 0.001

    async with ModelPool(load_catalogue(NOBODY, environ={}), sleep=pause) as models:
        held = HeldModels(models, hold)

        # A further attempt would be refused as the first one was, and end in a ProviderError.
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await held.complete("away", REQUEST)
