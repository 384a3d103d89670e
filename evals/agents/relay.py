"""The only way out of a sandbox: it adds the key, lets pass what was asked for and nothing else, and counts.

It runs outside, in the process that holds the keys, and listens on a socket file that one sandbox sees. Whoever is in
there may send it anything.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from evals.agents.plugins import PinnedPlugin
from evals.agents.tasks import AgentTask
from evals.agents.transcript import StreamReader, Transcript
from evals.errors import EngineError, ProviderError
from evals.models import CompletionRequest, Deployment
from evals.models._refusals import refusal

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession, web

LARGEST_REQUEST = 8 * 2**20  # bytes
LARGEST_ANSWER = 4 * 2**20
LARGEST_CALL = 256 * 2**10  # of a plugin's tool, arguments included
# Of a call in the middle of a conversation: what it has cost so far would be paid again if it began anew.
RETRIES = 2
LONGEST_PAUSE_SECONDS = 30.0

Cap = Literal["turns", "tokens"]
_PASSED_HEADERS = ("anthropic-version", "anthropic-beta")
_PASSED_TO_PLUGINS = ("accept", "mcp-session-id", "mcp-protocol-version")
_PLUGIN_METHODS = ("initialize", "notifications/initialized", "notifications/cancelled", "tools/list", "ping")


class Asked(NamedTuple):
    """A checked request of the agent's, and what it may cost at most."""

    body: dict[str, Any]
    content: bytes
    most_usd: float | None


class Relay:
    """One trial's way out. After the trial: `transcript`, and why it ended early in `trouble` and `cap`."""

    def __init__(
        self,
        task: AgentTask,
        request: CompletionRequest,
        deployment: Deployment,
        *,
        session: ClientSession,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.transcript = Transcript()
        self.trouble: EngineError | None = None
        self.cap: Cap | None = None
        self.refused_requests = 0  # for another model, or of another kind
        self.refused_plugin_calls = 0
        self._task = task
        self._request = request
        self._deployment = deployment
        self._session = session
        self._sleep = sleep
        self._plugins = {plugin.name: plugin for plugin in task.plugins}
        self._calls = 0
        self._one_at_a_time = asyncio.Lock()

    async def open(self, socket: Path) -> web.AppRunner:
        """Listens there until the runner's `cleanup`."""
        from aiohttp import web

        app = web.Application(client_max_size=LARGEST_REQUEST)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/plugins/{name}", self._plugin)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        return runner

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        # Agents of agents are granted to nobody, so there is one conversation, and it asks one thing at a time.
        async with self._one_at_a_time:
            try:
                asked = self._check(await request.read())
                if self._request.meter is not None:
                    await self._request.meter.admit(asked.most_usd)
            except EngineError as error:
                self.trouble = self.trouble or error
                return _refusal(402)
            except _NotAllowed as why:
                return _refusal(why.status)
            return await self._forward(request, asked)

    def _check(self, content: bytes) -> Asked:
        """What may be sent on. Raises _NotAllowed."""
        if self.trouble is not None:
            raise _NotAllowed(403)
        try:
            body = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError):
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or body.get("stream") is not True:
            self.refused_requests += 1
            raise _NotAllowed(400)
        if body.get("model") != self._deployment.model:
            self.refused_requests += 1
            raise _NotAllowed(403)
        limits = self._task.limits
        if self._calls >= limits.calls or self.transcript.tokens >= limits.tokens:
            self.cap = "turns" if self._calls >= limits.calls else "tokens"
            raise _NotAllowed(403)
        self._calls += 1
        self.transcript.note_request(body)
        sent = self._bounded(body)
        content = msgspec.json.encode(sent)
        return Asked(sent, content, self._most_usd(content, sent["max_tokens"]))

    def _bounded(self, body: dict[str, Any]) -> dict[str, Any]:
        asked = body.get("max_tokens")
        longest = self._request.max_tokens
        bounded = body | {"max_tokens": min(asked, longest) if type(asked) is int and asked > 0 else longest}
        if self._request.temperature is not None:
            # OpenAI's scale ends at 2, Anthropic's at 1.
            bounded["temperature"] = min(self._request.temperature, 1.0)
        return bounded

    def _most_usd(self, content: bytes, max_tokens: int) -> float | None:
        """Two bytes a token are fewer than any text of a conversation has (evals/pricing.py)."""
        price = self._deployment.price
        if price is None:
            return None
        return price.cost_usd(input_tokens=math.ceil(len(content) / 2), output_tokens=max_tokens)

    async def _forward(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        cost = asked.most_usd  # taken at its most, until it is known
        headers = {name: request.headers[name] for name in _PASSED_HEADERS if name in request.headers}
        try:
            upstream = await self._post_patiently(asked, headers)
            try:
                reader = StreamReader()
                response = await self._stream(request, upstream, reader)
            finally:
                upstream.close()
            cost = self._note(reader)
            return response
        except ProviderError as error:
            self.trouble = self.trouble or error
            # Refused before anything was answered: nothing to pay.
            cost = asked.most_usd if error.timed_out or error.status == 200 else 0.0
            return _refusal(502)
        finally:
            if self._request.meter is not None:
                self._request.meter.settle(asked.most_usd, cost)

    async def _post_patiently(self, asked: Asked, headers: dict[str, str]) -> ClientResponse:
        """The upstream's answer, HTTP 200. Raises ProviderError."""
        for retry in range(RETRIES + 1):
            try:
                return await self._post(asked, headers)
            except ProviderError as error:
                begun = bool(self.transcript.answers)
                pause = error.retry_after_seconds
                if pause is None:
                    pause = 0.5 * 2.0**retry * (0.5 + random.random())  # noqa: S311 - spreads retries, hides nothing
                if not begun:
                    raise  # nothing was paid for: the pool tries again, or somewhere else
                if not error.retryable or retry == RETRIES or pause > LONGEST_PAUSE_SECONDS:
                    raise _once(error) from None
                await self._sleep(pause)
        raise AssertionError("the last retry has returned or raised")

    async def _post(self, asked: Asked, headers: dict[str, str]) -> ClientResponse:
        import aiohttp

        key = {"x-api-key": self._deployment.key.reveal()} if self._deployment.key is not None else {}
        try:
            response = await self._session.post(
                messages_url(self._deployment.base_url or ""),
                data=asked.content,
                headers={**headers, **key, "Content-Type": "application/json", "Accept-Encoding": "identity"},
                allow_redirects=False,
            )
        except aiohttp.InvalidURL:
            raise ProviderError(f"{self._deployment.id} has a base_url that is no URL.", retryable=False) from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise self._unreachable() from None
        if response.status != 200:
            response.close()
            # Not the provider's own text: it may repeat a key.
            raise refusal(
                self._deployment.id,
                response.status,
                retry_after=response.headers.get("Retry-After"),
                now=datetime.now(UTC),
            )
        return response

    async def _stream(self, request: web.Request, upstream: ClientResponse, reader: StreamReader) -> web.StreamResponse:
        """Passes the answer on as it comes, at most LARGEST_ANSWER of it. Raises ProviderError."""
        import aiohttp
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        size = 0
        try:
            async for piece in upstream.content.iter_any():
                if not size:
                    await response.prepare(request)
                size += len(piece)
                if size > LARGEST_ANSWER:
                    raise ProviderError(
                        f"{self._deployment.id} answered more than {LARGEST_ANSWER // 2**20} MB.",
                        retryable=False,
                        status=200,
                    )
                reader.feed(piece)
                await response.write(piece)
        except ConnectionResetError:
            return response  # who asked is gone: the agent was stopped
        except (aiohttp.ClientError, OSError, ValueError):
            raise self._unreachable() from None
        if not reader.is_whole:
            raise ProviderError(
                f"{self._deployment.id} answered something that is no message; check its base_url.",
                retryable=not self.transcript.answers,
                status=200,
            )
        await response.write_eof()
        return response

    def _note(self, reader: StreamReader) -> float | None:
        """The answer is part of the transcript; what it cost, None if nobody knows."""
        said = reader.said()
        self.transcript.answers.append(said)
        price = self._deployment.price
        if price is None or said.input_tokens is None or said.output_tokens is None:
            return None
        return price.cost_usd(input_tokens=said.input_tokens, output_tokens=said.output_tokens)

    def _unreachable(self) -> ProviderError:
        return ProviderError(
            f"{self._deployment.id} cannot be reached, or broke off; check that its server runs.",
            retryable=not self.transcript.answers,
        )

    async def _plugin(self, request: web.Request) -> web.StreamResponse:
        """One message to a plugin with an address, and its answer."""
        import aiohttp
        from aiohttp import web

        plugin = self._plugins.get(request.match_info["name"])
        content = await request.read()
        if plugin is None or plugin.url is None or not _may_be_sent(content, plugin):
            self.refused_plugin_calls += 1
            return _refusal(403)
        headers = {name: request.headers[name] for name in _PASSED_TO_PLUGINS if name in request.headers}
        if plugin.key is not None:
            headers["Authorization"] = f"Bearer {plugin.key.reveal()}"
        try:
            async with self._session.post(
                plugin.url,
                data=content,
                headers={**headers, "Content-Type": "application/json", "Accept-Encoding": "identity"},
                allow_redirects=False,
            ) as answer:
                body = bytearray()
                async for piece in answer.content.iter_any():
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        return _refusal(502)
                kept = {name: answer.headers[name] for name in ("Mcp-Session-Id",) if name in answer.headers}
                return web.Response(
                    status=answer.status if 200 <= answer.status < 300 else 502,
                    body=bytes(body),
                    headers={**kept, "Content-Type": answer.headers.get("Content-Type", "application/json")},
                )
        except (aiohttp.ClientError, OSError, ValueError):
            return _refusal(502)


def _may_be_sent(content: bytes, plugin: PinnedPlugin) -> bool:
    """Whether it is one message, of a kind that a run needs; only approved tools are called."""
    if len(content) > LARGEST_CALL:
        return False
    try:
        message = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return False
    if not isinstance(message, dict):
        return False
    parameters = message.get("params")
    if message.get("method") == "tools/call":
        return isinstance(parameters, dict) and parameters.get("name") in plugin.tools
    return message.get("method") in _PLUGIN_METHODS


def messages_url(base_url: str) -> str:
    """Where to POST; an address may end in /v1, as those of proxies do."""
    return f"{base_url.rstrip('/').removesuffix('/v1')}/v1/messages"


class _NotAllowed(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def _refusal(status: int) -> web.Response:
    from aiohttp import web

    error = {"type": "error", "error": {"type": "permission_error", "message": "This run may not ask for that."}}
    return web.json_response(error, status=status)


def _once(error: ProviderError) -> ProviderError:
    """The same, told as final: the conversation has cost money, and is not begun anew at the same place."""
    return ProviderError(
        error.message,
        retryable=False,
        status=error.status,
        retry_after_seconds=error.retry_after_seconds,
        timed_out=error.timed_out,
    )
