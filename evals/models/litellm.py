"""Any provider that the LiteLLM library knows. The one place that imports it, and only inside a function.

The import takes seconds of CPU and some 180 MB, so only processes that call models through it pay for it.
Its Router, cache, price map and defaults are not used: each misleads (docs/decisions/0003-litellm.md).
"""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment, backend
from evals.models._embeddings import embeddings_completion
from evals.models._refusals import refusal
from evals.types import Completion

if TYPE_CHECKING:
    from aiohttp import ClientSession

# Each stops something that the library does by itself at import or later: fetching a price map, reading a
# `.env` file, talking on stdout, asking a model hub for tokenizers.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "LITELLM_OFFLINE_MODE": "true",
    "HF_HUB_OFFLINE": "1",
}


class LibraryOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment may ask for."""

    arguments: dict[str, Any] = {}  # further arguments of `acompletion`, such as `aws_region_name`


@backend("litellm")
class LiteLLM:
    """One library for all deployments; keys are passed with each call, never by the environment."""

    Options = LibraryOptions

    def __init__(self) -> None:
        self._library: ModuleType | None = None
        self._session: ClientSession | None = None
        self._loading = asyncio.Lock()

    async def prepare(self) -> None:
        """Import the library in a thread and warm it up. Safe to call twice, and at the same time."""
        async with self._loading:
            if self._library is None:
                library = await asyncio.to_thread(_load)
                # The first call in a process imports more, for half a second: let it be this one.
                await library.acompletion(
                    model="openai/warm-up",
                    messages=[{"role": "user", "content": "-"}],
                    mock_response="-",
                    api_key="-",
                )
                self._library = library

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        """One call without the library's own retries. Raises ProviderError."""
        if self._library is None:
            await self.prepare()
        assert self._library is not None  # noqa: S101 - for the type checker: prepare() has set it
        # Imported here, with the library: who only reads the catalogue needs no HTTP client.
        from evals.models._bounded import bounded_session, floods

        if self._session is None:
            self._session = bounded_session()
        too_long: list[str] = []
        floods.set(too_long)
        try:
            async with asyncio.timeout(request.timeout_seconds):
                if request.embeddings:
                    return _embeddings(
                        await self._library.aembedding(**embedding_arguments(request, deployment)), request, deployment
                    )
                reply = await self._library.acompletion(
                    **call_arguments(request, deployment), shared_session=self._session
                )
        except ProviderError:
            raise
        except TimeoutError:
            raise _timed_out(request, deployment) from None
        except Exception as error:  # noqa: BLE001 - the library raises what its many providers raise
            if too_long:
                # Not worth another try: the same question brings the same flood.
                raise ProviderError(f"{deployment.id} answered more than 4 MB.", retryable=False, status=200) from None
            # `from None`: the library's errors hold the provider's text, and frames with the key.
            raise _as_provider_error(error, request, deployment) from None
        return _completion(reply, deployment)

    async def aclose(self) -> None:
        """Close the library's connections. Safe to call twice."""
        library, self._library = self._library, None
        if library is not None:
            await library.close_litellm_async_clients()
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def call_arguments(request: CompletionRequest, deployment: Deployment) -> dict[str, Any]:
    """What `acompletion` is given."""
    arguments: dict[str, Any] = {
        **msgspec.convert(deployment.options, LibraryOptions).arguments,
        "model": deployment.model,
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "timeout": request.timeout_seconds,
        # The OpenAI client below it would try three times, and sleep as long as any Retry-After says.
        "max_retries": 0,
        "num_retries": 0,
        "api_key": deployment.key.reveal() if deployment.key else None,
        "api_base": deployment.base_url,
        "temperature": request.temperature,
        "response_format": {"type": "json_object"} if request.json_object else None,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def embedding_arguments(request: CompletionRequest, deployment: Deployment) -> dict[str, Any]:
    """What `aembedding` is given."""
    arguments: dict[str, Any] = {
        **msgspec.convert(deployment.options, LibraryOptions).arguments,
        "model": deployment.model,
        "input": [message.content for message in request.messages],
        "encoding_format": "float",
        "timeout": request.timeout_seconds,
        "max_retries": 0,
        "num_retries": 0,
        "api_key": deployment.key.reveal() if deployment.key else None,
        "api_base": deployment.base_url,
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _load() -> ModuleType:
    for name, value in _QUIET.items():
        # The library reads these from the process's environment and from nowhere else.
        os.environ.setdefault(name, value)
    import litellm

    litellm.suppress_debug_info = True  # or it prints advice to stdout at every error
    litellm.drop_params = True  # a model that takes no temperature still answers
    litellm.telemetry = False
    # Its log lines hold prompts and providers' texts.
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    module: ModuleType = litellm
    return module


def _as_provider_error(error: Exception, request: CompletionRequest, deployment: Deployment) -> ProviderError:
    """Classified by status alone: the library's classes change between its versions."""
    status = getattr(error, "status_code", None)
    if type(status) is not int:
        return ProviderError(f"{deployment.id} could not be called ({type(error).__name__}).", retryable=False)
    if status == 408:
        return _timed_out(request, deployment)
    headers = getattr(error, "litellm_response_headers", None) or {}
    return refusal(deployment.id, status, retry_after=headers.get("retry-after"), now=datetime.now(UTC))


def _timed_out(request: CompletionRequest, deployment: Deployment) -> ProviderError:
    return ProviderError(
        f"{deployment.id} did not answer within {request.timeout_seconds:g} s.",
        retryable=True,
        timed_out=True,
    )


def _completion(reply: Any, deployment: Deployment) -> Completion:
    try:
        choice = reply.choices[0]
        text = choice.message.content or ""
        if not isinstance(text, str):
            raise TypeError
    except (AttributeError, IndexError, TypeError):
        raise ProviderError(f"{deployment.id} answered without a message.", retryable=True, status=200) from None
    usage = getattr(reply, "usage", None)
    return Completion(
        text=text,
        answered_by=str(getattr(reply, "model", None) or deployment.model),
        finish_reason=choice.finish_reason if isinstance(choice.finish_reason, str) else None,
        input_tokens=_count(usage, "prompt_tokens"),
        output_tokens=_count(usage, "completion_tokens"),
    )


def _embeddings(reply: Any, request: CompletionRequest, deployment: Deployment) -> Completion:
    try:
        return embeddings_completion(
            [item["embedding"] if isinstance(item, dict) else item.embedding for item in reply.data],
            count=len(request.messages),
            answered_by=str(getattr(reply, "model", None) or deployment.model),
            input_tokens=_count(getattr(reply, "usage", None), "prompt_tokens"),
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ProviderError(f"{deployment.id} answered without embeddings.", retryable=True, status=200) from None


def _count(usage: Any, name: str) -> int | None:
    """The provider's count. The library writes 0 where none was given; a true count is never 0."""
    count = getattr(usage, name, None)
    return count if type(count) is int and count > 0 else None
