"""A server that speaks Anthropic's Messages API and plays models that obey, and models that mean harm.

An *obedient* model does all that it is told: each line `DO: Tool {"argument": 1}` in the system prompt or a message
is a call that it makes, one a turn and in order, and then it says what the tools answered. So a
hostile package needs nothing but its own text. A *script* is a model that means harm by itself.
https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "claude-standin-1"
KEY = "sk-standin-5b1f0c0e-canary"  # what the relay adds, and nothing in a sandbox may ever hold
Blocks = list[dict[str, Any]]
Play = Callable[[dict[str, Any]], Blocks]

_DO = re.compile(r"DO: (?P<name>\S+) (?P<input>\{.*\})")
_SAY = re.compile(r"SAY: (?P<text>.+)")


def text(said: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": said}


def call(name: str, **arguments: Any) -> dict[str, Any]:
    """A block that calls a tool."""
    return {"type": "tool_use", "name": name, "input": arguments}


def obedient(body: dict[str, Any]) -> Blocks:
    """The next thing that the texts ask for; at the end what the tools answered, and what it was told to say."""
    told = "\n".join(texts(body))
    wanted = [(found["name"], json.loads(found["input"])) for found in _DO.finditer(told)]
    done = len(calls_in(body))
    if done < len(wanted):
        name, arguments = wanted[done]
        return [call(name, **arguments)]
    said = [found["text"] for found in _SAY.finditer(told)]
    return [text("\n".join([*results(body), *said[-1:]]) or "Hello.")]


def script(*turns: Blocks) -> Play:
    """These answers one after the other, whatever is said; the last one for ever."""

    def play(body: dict[str, Any]) -> Blocks:
        asked = sum(message["role"] == "assistant" for message in body["messages"])
        return turns[min(asked, len(turns) - 1)]

    return play


def texts(body: dict[str, Any]) -> Iterator[str]:
    """Every text of a request, in the order of reading: what the model itself said is left out."""
    yield from _texts_of(body.get("system", ""))
    for message in body["messages"]:
        if message["role"] == "user":
            yield from _texts_of(message["content"])


def _texts_of(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for block in content:
        if block["type"] == "text":
            yield block["text"]


def results(body: dict[str, Any]) -> list[str]:
    """What the tools answered."""
    found = []
    for message in body["messages"]:
        if message["role"] == "user" and not isinstance(message["content"], str):
            blocks = [block for block in message["content"] if block["type"] == "tool_result"]
            found += ["\n".join(_texts_of(block.get("content", ""))) for block in blocks]
    return found


def calls_in(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls that the model made so far."""
    return [
        block
        for message in body["messages"]
        if message["role"] == "assistant" and not isinstance(message["content"], str)
        for block in message["content"]
        if block["type"] == "tool_use"
    ]


@dataclass
class AnthropicServer:
    """What the model plays, and what it was sent."""

    play: Play = obedient
    base_url: str = ""
    status: int = 200  # of every answer from now on
    fail_first: int = 0  # so many requests get HTTP 500 before the first answer
    retry_after: str | None = None
    latency_seconds: float = 0.0
    raw: bytes | None = None  # sent in place of an answer
    input_tokens: int = 100  # that every answer claims
    output_tokens: int = 10
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    in_flight: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if request.path.endswith("/v1/models"):
            return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        if request.method != "POST" or not request.path.endswith("/v1/messages"):
            return web.Response(status=404)
        body = await request.json()
        if "messages" not in body:  # as the API does: nothing was asked
            error = {"type": "invalid_request_error", "message": "messages: Field required"}
            return web.json_response({"type": "error", "error": error}, status=400)
        self.requests.append(body)
        self.in_flight += 1
        try:
            await asyncio.sleep(self.latency_seconds)
            return await self._answer(request, body)
        finally:
            self.in_flight -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        status = 500 if len(self.requests) <= self.fail_first else self.status
        if status != 200:
            error = {"type": "error", "error": {"type": "api_error", "message": f"no, {KEY}"}}
            headers = {"Retry-After": self.retry_after} if self.retry_after else {}
            return web.json_response(error, status=status, headers=headers)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self.raw is not None:
            await response.write(self.raw)
        else:
            for event in self._events(body):
                await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        await response.write_eof()
        return response

    def _events(self, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        blocks = self.play(body)
        number = len(self.requests)
        yield {
            "type": "message_start",
            "message": {
                "id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"], "content": [],
                "stop_reason": None, "stop_sequence": None,
                "usage": {"input_tokens": self.input_tokens, "output_tokens": 1},
            },
        }  # fmt: skip
        for index, block in enumerate(blocks):
            yield from _block_events(index, block, id_=f"toolu_{number}_{index}")
        stop = "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": self.output_tokens},
        }
        yield {"type": "message_stop"}


def _block_events(index: int, block: dict[str, Any], *, id_: str) -> Iterator[dict[str, Any]]:
    if block["type"] == "text":
        start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
    else:
        start = {"type": "tool_use", "id": id_, "name": block["name"], "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    yield {"type": "content_block_start", "index": index, "content_block": start}
    yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


@asynccontextmanager
async def anthropic_server() -> AsyncIterator[AnthropicServer]:
    """One on a free port of 127.0.0.1."""
    server = AnthropicServer()
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.base_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


@contextmanager
def anthropic_server_in_thread() -> Iterator[AnthropicServer]:
    """The same in a thread of its own, for tests that block. It also lists its models, as proxies do."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    opened = anthropic_server()
    server = asyncio.run_coroutine_threadsafe(opened.__aenter__(), loop).result(10)
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(opened.__aexit__(None, None, None), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
