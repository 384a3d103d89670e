"""The echo beyond the backends' contract."""

from __future__ import annotations

from typing import Any

import pytest

from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment
from evals.models.echo import Echo
from evals.types import Message


def a_deployment(**options: Any) -> Deployment:
    return Deployment(id="echo/e", backend="echo", model="e", price=None, options=options)


def a_request(*messages: Message) -> CompletionRequest:
    return CompletionRequest(messages=messages)


async def test_echo__says_the_last_thing_the_user_said_and_counts_words() -> None:
    request = a_request(
        Message("system", "be kind"),
        Message("user", "one"),
        Message("user", "two three"),
        Message("assistant", "and"),
    )

    completion = await Echo().complete(request, a_deployment())

    assert completion.text == "two three"
    assert (completion.input_tokens, completion.output_tokens) == (6, 2)


async def test_echo__says_nothing_when_the_user_said_nothing() -> None:
    completion = await Echo().complete(a_request(Message("system", "x")), a_deployment())

    assert completion.text == ""


async def test_echo__says_the_given_answer_even_an_empty_one() -> None:
    request = a_request(Message("user", "x"))

    assert (await Echo().complete(request, a_deployment(answer="fixed words"))).text == "fixed words"
    assert (await Echo().complete(request, a_deployment(answer=""))).text == ""


async def test_echo__fails_as_often_as_told_for_each_deployment() -> None:
    echo, request = Echo(), a_request(Message("user", "x"))

    for _ in range(2):
        with pytest.raises(ProviderError):
            await echo.complete(request, a_deployment(fail_first=2))

    assert (await echo.complete(request, a_deployment(fail_first=2))).text == "x"
