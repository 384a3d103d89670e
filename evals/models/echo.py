"""A model that says what it was told: deterministic, for tests of everything around a model."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections import Counter

import msgspec
from msgspec import Struct

from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment, backend
from evals.models._embeddings import embeddings_completion
from evals.types import Completion


class EchoOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment of the echo may ask for."""

    latency_ms: int = 0
    fail_first: int = 0  # so many calls of this deployment fail before the first answer
    answer: str | None = None  # said instead of the last thing the user said


@backend("echo")
class Echo:
    """Answers the user's last message. Its tokens are words."""

    Options = EchoOptions

    def __init__(self) -> None:
        self._calls: Counter[str] = Counter()

    async def prepare(self) -> None:
        """Nothing to load."""

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        """The user's last message, or the option `answer`. Raises ProviderError."""
        options = msgspec.convert(deployment.options, EchoOptions)
        self._calls[deployment.id] += 1
        await self._wait(options, request, deployment)
        if self._calls[deployment.id] <= options.fail_first:
            raise ProviderError(f"{deployment.id} fails as it was told to.", retryable=True, status=500)
        if request.embeddings:
            return _embedded(request, deployment)
        said = [message.content for message in request.messages if message.role == "user"]
        text = options.answer if options.answer is not None else (said[-1] if said else "")
        return Completion(
            text=text,
            answered_by=deployment.model,
            finish_reason="stop",
            input_tokens=sum(len(message.content.split()) for message in request.messages),
            output_tokens=len(text.split()),
        )

    async def aclose(self) -> None:
        """Nothing to close."""

    async def _wait(self, options: EchoOptions, request: CompletionRequest, deployment: Deployment) -> None:
        if options.latency_ms / 1000 > request.timeout_seconds:
            await asyncio.sleep(request.timeout_seconds)
            raise ProviderError(
                f"{deployment.id} did not answer within {request.timeout_seconds:g} s.",
                retryable=True,
                timed_out=True,
            )
        if options.latency_ms:
            await asyncio.sleep(options.latency_ms / 1000)


_DIMENSIONS = 256


def _embedded(request: CompletionRequest, deployment: Deployment) -> Completion:
    """Vectors that count words: texts are alike as far as they share words."""
    texts = [message.content for message in request.messages]
    return embeddings_completion(
        [word_counts(text) for text in texts],
        count=len(texts),
        answered_by=deployment.model,
        input_tokens=sum(len(text.split()) for text in texts),
    )


def word_counts(text: str) -> list[float]:
    """The vector of a text."""
    counts = [0.0] * _DIMENSIONS
    for word in re.findall(r"\w+", text.lower()) or [""]:
        counts[zlib.crc32(word.encode()) % _DIMENSIONS] += 1.0
    return counts
