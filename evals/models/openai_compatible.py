"""Any server that speaks OpenAI's chat completions, by URL: a LiteLLM proxy, llama.cpp, vLLM, Ollama."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from evals.errors import ProviderError
from evals.models import CompletionRequest, Deployment, backend
from evals.models._embeddings import LARGEST_EMBEDDINGS, decode_embeddings
from evals.models._refusals import refusal
from evals.types import Completion

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

LARGEST_ANSWER = 4 * 2**20  # bytes


class ServerOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a deployment may ask for."""

    body: dict[str, Any] = {}  # fields that the request gets besides ours, or in their place
    headers: dict[str, str] = {}  # never the key: that is the deployment's own


@backend("openai_compatible")
class OpenAICompatible:
    """One session for all deployments; the key of a deployment travels in its requests' header only."""

    Options = ServerOptions

    def __init__(self) -> None:
        self._session: ClientSession | None = None

    async def prepare(self) -> None:
        """Import the HTTP client and open the session. Safe to call twice."""
        if self._session is None:
            # Imported here, as a process that only reads the catalogue never calls a model.
            import aiohttp

            tracing = aiohttp.TraceConfig()
            tracing.on_connection_create_end.append(_wait_until_allowed)
            tracing.on_connection_reuseconn.append(_wait_until_allowed)
            self._session = aiohttp.ClientSession(
                trace_configs=[tracing],
                connector=aiohttp.TCPConnector(limit=0),  # limits are the pool's
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                trust_env=False,
            )

    async def complete(self, request: CompletionRequest, deployment: Deployment) -> Completion:
        """One POST, no redirects, at most 4 MB read. Raises ProviderError."""
        await self.prepare()
        import aiohttp

        try:
            async with asyncio.timeout(request.timeout_seconds):
                content = await self._post(request, deployment)
        except TimeoutError:
            raise ProviderError(
                f"{deployment.id} did not answer within {request.timeout_seconds:g} s.",
                retryable=True,
                timed_out=True,
            ) from None
        except aiohttp.InvalidURL:
            raise ProviderError(f"{deployment.id} has a base_url that is no URL.", retryable=False) from None
        except (aiohttp.ClientError, OSError, ValueError):
            # ValueError: aiohttp raises it bare for headers and bodies that break the protocol.
            raise ProviderError(
                f"{deployment.id} cannot be reached, or broke off; check that its server runs.",
                retryable=True,
            ) from None
        return _read_embeddings(content, request, deployment) if request.embeddings else read_reply(content, deployment)

    async def aclose(self) -> None:
        """Close the session. Safe to call twice."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, request: CompletionRequest, deployment: Deployment) -> bytes:
        assert self._session is not None  # noqa: S101 - for the type checker: complete() prepared it
        options = msgspec.convert(deployment.options, ServerOptions)
        headers = {**options.headers, "Content-Type": "application/json", "Accept-Encoding": "identity"}
        if deployment.key is not None:
            headers["Authorization"] = f"Bearer {deployment.key.reveal()}"
        async with self._session.post(
            embeddings_url(deployment.base_url or "")
            if request.embeddings
            else completions_url(deployment.base_url or ""),
            data=msgspec.json.encode({**request_body(request, deployment), **options.body}),
            headers=headers,
            allow_redirects=False,
            trace_request_ctx=request.allowed,
        ) as response:
            if response.status != 200:
                raise refusal(
                    deployment.id,
                    response.status,
                    retry_after=response.headers.get("Retry-After"),
                    now=datetime.now(UTC),
                )
            return await _read(response, deployment, most=LARGEST_EMBEDDINGS if request.embeddings else LARGEST_ANSWER)


async def _wait_until_allowed(session: ClientSession, context: SimpleNamespace, params: object) -> None:
    """Between the connection and the request nothing else is waited for."""
    if context.trace_request_ctx is not None:
        await context.trace_request_ctx()


def completions_url(base_url: str) -> str:
    """Where to POST. An address without a path gets the usual `/v1`."""
    return f"{_versioned(base_url)}/chat/completions"


def embeddings_url(base_url: str) -> str:
    """Where to POST for embeddings; beside the completions."""
    return f"{_versioned(base_url)}/embeddings"


def _versioned(base_url: str) -> str:
    base = base_url.rstrip("/")
    return base if urlsplit(base).path else f"{base}/v1"


def request_body(request: CompletionRequest, deployment: Deployment) -> dict[str, Any]:
    """What is sent; fields that nobody asked for are left to the server's defaults."""
    if request.embeddings:
        # https://platform.openai.com/docs/api-reference/embeddings/create
        return {
            "model": deployment.model,
            "input": [message.content for message in request.messages],
            "encoding_format": "float",
        }
    body: dict[str, Any] = {
        "model": deployment.model,
        "messages": request.messages,
        "max_tokens": request.max_tokens,
    }
    if request.temperature is not None:
        body["temperature"] = request.temperature
    if request.json_object:
        body["response_format"] = {"type": "json_object"}
    return body


class _Message(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Reply(Struct, frozen=True):
    choices: list[_Choice]
    model: str | None = None
    usage: Any = None  # read leniently: servers differ, and an odd count must not cost the answer


_DECODER = msgspec.json.Decoder(_Reply)


def read_reply(content: bytes, deployment: Deployment) -> Completion:
    """The completion in a server's JSON. Raises ProviderError, as a second try may go better."""
    try:
        reply = _DECODER.decode(content)
        choice = reply.choices[0]
    except (msgspec.MsgspecError, ValueError, RecursionError, IndexError):
        raise refusal(deployment.id, 200, retry_after=None, now=datetime.now(UTC)) from None
    return Completion(
        text=choice.message.content or "",
        answered_by=reply.model or deployment.model,
        finish_reason=choice.finish_reason,
        input_tokens=_count(reply.usage, "prompt_tokens"),
        output_tokens=_count(reply.usage, "completion_tokens"),
    )


def _read_embeddings(content: bytes, request: CompletionRequest, deployment: Deployment) -> Completion:
    try:
        return decode_embeddings(content, count=len(request.messages), model=deployment.model)
    except ValueError:
        raise refusal(deployment.id, 200, retry_after=None, now=datetime.now(UTC)) from None


def _count(usage: Any, name: str) -> int | None:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < 2**31 else None


async def _read(response: ClientResponse, deployment: Deployment, *, most: int) -> bytes:
    """The body, at most so many bytes of it."""
    content = bytearray()
    async for piece in response.content.iter_any():
        content += piece
        if len(content) > most:
            # Not worth another try: the same question brings the same flood.
            raise ProviderError(
                f"{deployment.id} answered more than {most // 2**20} MB.",
                retryable=False,
                status=200,
            )
    return bytes(content)
