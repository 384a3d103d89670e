"""A model server of our own: speaks chat completions, and the model's name chooses how it behaves.

    python -m benchmarks.mock_model --port 0 --latency-ms 200

prints one line `listening on http://127.0.0.1:PORT` when it is ready. Models:

    mock-*          the right answer: "ANSWER-0042 <token>" to a prompt with "case 0042", else "ok <token>"
    flaky-P-*       right with probability P, drawn anew at every call (flaky-0.8-a)
    told-*          the same, with the probability that a message names last: "probability 0.2"; 1 without any
    weak-P-*        right for a fixed share P of the prompts, always the same ones
    slow-MS-*       MS milliseconds later
    err-P-*         HTTP 500 with probability P
    rl-N-*          N requests a second, then HTTP 429 with Retry-After
    status-N-*      HTTP N, with the prompt and the key echoed in the body
    judge-*         {"pass": ..., "score": ..., "reason": ...}; passes what holds GOLD or ANSWER-
    broken-P-*      as judge-*, but with probability P talk without any JSON
    nonsense-*      HTTP 200 with JSON that breaks off
    html-*          HTTP 200 with a page
    endless-*       HTTP 200 with a body that drips and never ends
    huge-MB-*       HTTP 200 with an answer of MB megabytes
    bomb-MB-*       the same in gzip, as a few kilobytes, whether the client takes gzip or not
    nousage-*       no token counts
    tools-*         a tool call that nobody asked for, and no text
    nul-*           NUL characters in the text
    filtered-*      finish_reason content_filter and an empty text

Answers depend on seed, model, prompt and the n-th call of that prompt only. Control: GET /__stats,
POST /__reset, POST /__config with any of "latency_ms", "jitter_ms", "seed", "fail_next", "fail_status",
"retry_after" and "answers", a list of texts that the next calls get, whatever the model.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import json
import re
import time
import zlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

_SETTINGS = ("latency_ms", "jitter_ms", "seed", "fail_next", "fail_status", "retry_after", "answers")


class MockModel:
    """The server's state; tests that run it in their own process read and set it directly."""

    def __init__(self, *, latency_ms: float = 0.0, jitter_ms: float = 0.0, seed: int = 0) -> None:
        self.latency_ms = latency_ms
        self.jitter_ms = jitter_ms
        self.seed = seed
        self.reset()

    def reset(self) -> None:
        """As after the start, but for latency, jitter and seed."""
        self.fail_next = 0
        self.fail_status = 500
        self.retry_after: str | None = None
        self.answers: list[str] = []
        self.requests = 0
        self.in_flight = 0
        self.max_in_flight = 0
        self.in_flight_by_model: Counter[str] = Counter()
        self.max_by_model: Counter[str] = Counter()
        self.by_model: Counter[str] = Counter()
        self.by_status: Counter[int] = Counter()
        self.calls_by_prompt: Counter[str] = Counter()
        self.recent: dict[str, deque[float]] = {}
        self.last_bodies: deque[dict[str, Any]] = deque(maxlen=100)
        self.last_keys: deque[str] = deque(maxlen=100)

    def draw(self, *parts: object) -> float:
        """0 <= number < 1 that depends on seed and parts only."""
        return self.token(*parts) / 2**64

    def token(self, *parts: object) -> int:
        text = "\x1f".join(map(str, (self.seed, *parts)))
        return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:8], "big")

    def application(self) -> web.Application:
        """Routes for the model and for control."""
        app = web.Application(client_max_size=64 * 2**20)
        for prefix in ("", "/v1"):
            app.router.add_post(f"{prefix}/chat/completions", self._chat)
            app.router.add_post(f"{prefix}/embeddings", self._embeddings)
            app.router.add_get(f"{prefix}/models", self._models)
        app.router.add_get("/__stats", self._stats)
        app.router.add_post("/__reset", self._reset)
        app.router.add_post("/__config", self._config)
        return app

    def stats(self) -> dict[str, Any]:
        """Counts since the last reset."""
        return {
            "requests": self.requests,
            "unique": len(self.calls_by_prompt),
            "in_flight": self.in_flight,
            "max_in_flight": self.max_in_flight,
            "max_by_model": dict(self.max_by_model),
            "by_model": dict(self.by_model),
            "by_status": {str(status): count for status, count in self.by_status.items()},
        }

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        call = _Call(request, await request.json(), self)
        self._enter(call)
        try:
            response = await self._respond(call)
        finally:
            self.in_flight -= 1
            self.in_flight_by_model[call.model] -= 1
        self.by_status[response.status] += 1
        return response

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        call = _Call(request, await request.json(), self)
        self._enter(call)
        self.in_flight -= 1
        self.in_flight_by_model[call.model] -= 1
        refused = self._refusal(call)
        if refused is not None:
            return refused
        texts = call.body["input"]
        # The last one first: `index` says which text a vector belongs to.
        data = [
            {"object": "embedding", "index": index, "embedding": _vector(text)} for index, text in enumerate(texts)
        ][::-1]
        counts = {"prompt_tokens": sum(len(text.split()) for text in texts)}
        return web.json_response({"object": "list", "model": call.model, "data": data, "usage": counts})

    def _enter(self, call: _Call) -> None:
        self.requests += 1
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        self.in_flight_by_model[call.model] += 1
        self.max_by_model[call.model] = max(self.max_by_model[call.model], self.in_flight_by_model[call.model])
        self.by_model[call.model] += 1
        self.calls_by_prompt[call.identity] += 1
        self.last_bodies.append(call.body)
        self.last_keys.append(call.request.headers.get("Authorization", ""))

    async def _respond(self, call: _Call) -> web.StreamResponse:
        refused = self._refusal(call)
        if refused is not None:
            return refused
        await asyncio.sleep(self._latency_seconds(call))
        special = _SPECIAL.get(call.kind)
        if special is not None and not self.answers:
            return await special(call)
        text = self.answers.pop(0) if self.answers else answer(call)
        if call.body.get("stream"):
            return await _streamed(call, text)
        return web.json_response(_completion(call, text))

    def _refusal(self, call: _Call) -> web.Response | None:
        if self.fail_next > 0:
            self.fail_next -= 1
            return _refused(call, self.fail_status, self.retry_after)
        if call.kind == "status":
            return _refused(call, int(call.number), self.retry_after)
        if call.kind == "err" and self.draw("err", call.identity, call.nth) < call.number:
            return _refused(call, 500, None)
        if call.kind == "rl" and self._is_over_limit(call):
            return _refused(call, 429, "1")
        return None

    def _is_over_limit(self, call: _Call) -> bool:
        window = self.recent.setdefault(call.model, deque())
        now = time.monotonic()
        while window and now - window[0] > 1.0:
            window.popleft()
        if len(window) >= call.number:
            return True
        window.append(now)
        return False

    def _latency_seconds(self, call: _Call) -> float:
        extra = call.number if call.kind == "slow" else 0.0
        jitter = self.jitter_ms * self.draw("jitter", call.identity, call.nth) if self.jitter_ms else 0.0
        return (self.latency_ms + extra + jitter) / 1000

    async def _models(self, _: web.Request) -> web.Response:
        names = ("mock-a", "mock-b", "flaky-0.8-a", "weak-0.9-a", "judge-a")
        return web.json_response({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response(self.stats())

    async def _reset(self, _: web.Request) -> web.Response:
        self.reset()
        return web.json_response({})

    async def _config(self, request: web.Request) -> web.Response:
        wanted = await request.json()
        unknown = sorted(set(wanted) - set(_SETTINGS))
        if unknown:
            return web.json_response({"error": f"unknown: {unknown}; known: {_SETTINGS}"}, status=400)
        for name, value in wanted.items():
            setattr(self, name, value)
        return web.json_response({name: getattr(self, name) for name in _SETTINGS})


class _Call:
    """One request, read."""

    def __init__(self, request: web.Request, body: dict[str, Any], mock: MockModel) -> None:
        self.request = request
        self.body = body
        self.mock = mock
        self.model = str(body.get("model", "mock"))
        named = re.match(r"([a-z]+)(?:-([0-9.]+))?", self.model)
        self.kind = named.group(1) if named else ""
        self.number = float(named.group(2)) if named and named.group(2) else 1.0
        contents = [message.get("content") for message in body.get("messages", [])]
        self.prompt = "\n".join(c if isinstance(c, str) else json.dumps(c) for c in contents)
        self.identity = f"{self.model}\x1f{self.prompt}"
        self.nth = mock.calls_by_prompt[self.identity]


def told_rate(body: dict[str, Any]) -> float:
    """The probability that the messages name last, 0..1."""
    named = re.findall(r"probability ([01](?:\.\d+)?)", json.dumps(body.get("messages", [])))
    return float(named[-1]) if named else 1.0


def answer(call: _Call) -> str:
    """The text for this call, right or wrong."""
    case = re.search(r"case (\d+)", call.prompt)
    right = f"{f'ANSWER-{case.group(1)}' if case else 'ok'} {call.mock.token(call.prompt) % 2**32:08x}"
    wrong = f"WRONG {call.mock.token('wrong', call.prompt) % 2**32:08x}"
    if call.kind == "broken" and call.mock.draw("broken", call.identity, call.nth) < call.number:
        return "Well, that depends on how you look at it {"
    if call.kind in ("judge", "broken"):
        return json.dumps(_opinion(call.prompt, good="GOLD" in call.prompt or "ANSWER-" in call.prompt))
    if call.kind == "told":
        return right if call.mock.draw("told", call.identity, call.nth) < told_rate(call.body) else wrong
    if call.kind == "flaky":
        return right if call.mock.draw("flaky", call.identity, call.nth) < call.number else wrong
    if call.kind == "weak":
        return right if call.mock.draw("weak", call.identity) < call.number else wrong
    return right


def _opinion(prompt: str, *, good: bool) -> dict[str, Any]:
    """The fields that the judge is asked for by name, or a verdict, a score and a reason."""
    best = 10.0 if "(in every way)" in prompt else 1.0
    usual = {"pass": good, "score": best if good else 0.0, "reason": "as the mock sees it"}
    further: dict[str, Any] = {
        "category": "C" if good else "D",
        "steps": ["look"],
        "statements": [{"statement": "what was said", "supported": good}],
        "sentences": [{"number": 1, "needed": good}],
        "questions": ["What is it?", "Is it so?", "Which one?"],
        "best": 1,
    }
    return usual | {name: value for name, value in further.items() if f'"{name}": ' in prompt}


def _vector(text: str) -> list[float]:
    """Texts with the same words have the same vector."""
    counts = [0.0] * 64
    for word in re.findall(r"\w+", text.lower()) or [""]:
        counts[zlib.crc32(word.encode()) % 64] += 1.0
    return counts


def _completion(call: _Call, text: str | None, **changes: Any) -> dict[str, Any]:
    """The JSON of an answer; `changes` go into its only choice."""
    message = {"role": "assistant", "content": text}
    return {
        "id": f"chatcmpl-{call.mock.token(call.identity, call.nth):016x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": call.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **changes}],
        "usage": _usage(call, text or ""),
    }


def _usage(call: _Call, text: str) -> dict[str, int]:
    asked, answered = max(1, len(call.prompt) // 4), max(1, len(text) // 4)
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _refused(call: _Call, status: int, retry_after: str | None) -> web.Response:
    """A refusal that echoes prompt and key, as the worst provider would."""
    said = f"mock failure; your key was {call.request.headers.get('Authorization', '')}; you said {call.prompt}"
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    if 300 <= status < 400:
        headers["Location"] = "/v1/chat/completions"
    return web.json_response({"error": {"message": said, "type": "mock"}}, status=status, headers=headers)


async def _streamed(call: _Call, text: str) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(call.request)
    whole = _completion(call, text)
    base = {
        "id": whole["id"],
        "object": "chat.completion.chunk",
        "created": whole["created"],
        "model": call.model,
    }
    for delta, reason in (({"role": "assistant", "content": text}, None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        piece = {**base, "choices": [choice], **({"usage": whole["usage"]} if reason else {})}
        await response.write(b"data: " + json.dumps(piece).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    return response


async def _nonsense(call: _Call) -> web.StreamResponse:
    return web.Response(body=b'{"choices": [{"message": {"content": "half an ans', content_type="application/json")


async def _html(call: _Call) -> web.StreamResponse:
    return web.Response(text="<html><body>Welcome to the gateway</body></html>", content_type="text/html")


async def _endless(call: _Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    await response.write(b'{"choices": [{"message": {"content": "')
    while True:
        await response.write(b"and on ")
        await asyncio.sleep(0.02)


async def _huge(call: _Call) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(call.request)
    await response.write(b'{"choices": [{"message": {"content": "')
    megabyte = b"x" * 2**20
    for _ in range(int(call.number)):
        await response.write(megabyte)
    await response.write(b'"}}]}')
    return response


async def _bomb(call: _Call) -> web.StreamResponse:
    content = b'{"choices": [{"message": {"content": "' + b"x" * int(call.number * 2**20) + b'"}}]}'
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    return web.Response(body=gzip.compress(content), headers=headers)


async def _nousage(call: _Call) -> web.StreamResponse:
    completion = _completion(call, answer(call))
    del completion["usage"]
    return web.json_response(completion)


async def _tools(call: _Call) -> web.StreamResponse:
    asked = {"id": "call_1", "type": "function", "function": {"name": "delete_everything", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [asked]}
    return web.json_response(_completion(call, None, message=message, finish_reason="tool_calls"))


async def _nul(call: _Call) -> web.StreamResponse:
    return web.json_response(_completion(call, "before\0after"))


async def _filtered(call: _Call) -> web.StreamResponse:
    return web.json_response(_completion(call, "", finish_reason="content_filter"))


_SPECIAL: dict[str, Callable[[_Call], Awaitable[web.StreamResponse]]] = {
    "nonsense": _nonsense,
    "html": _html,
    "endless": _endless,
    "huge": _huge,
    "bomb": _bomb,
    "nousage": _nousage,
    "tools": _tools,
    "nul": _nul,
    "filtered": _filtered,
}


async def serve(mock: MockModel, *, port: int) -> tuple[web.AppRunner, str]:
    """The mock listens on 127.0.0.1; returns its runner, to be cleaned up, and its address."""
    runner = web.AppRunner(mock.application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, backlog=1024)
    await site.start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def _serve_for_ever(mock: MockModel, *, port: int) -> None:
    _, address = await serve(mock, port=port)
    print(f"listening on {address}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """The server as a process of its own, until it is interrupted or terminated."""
    parser = argparse.ArgumentParser(description="A model server for tests and benchmarks.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--jitter-ms", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    mock = MockModel(latency_ms=wanted.latency_ms, jitter_ms=wanted.jitter_ms, seed=wanted.seed)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve_for_ever(mock, port=wanted.port))


if __name__ == "__main__":
    main()
