"""The model that all jobs ask: an OpenAI-compatible server that remembers when which case of which intent was asked."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime

from aiohttp import web
from msgspec import Struct

# What a case says to the model; the answer takes as long as it asks for.
PROMPT = "intent-{intent} case {case} after {milliseconds} ms"
_PROMPT = re.compile(r"intent-([0-9a-f]{12}) case (\d+) after (\d+) ms")


class Call(Struct, frozen=True):
    """One question that arrived, by this machine's clock."""

    intent: str
    case_index: int
    began_at: datetime


class CountingModel:
    """Answers with the question. `calls` grows."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Its base URL, on a free port of 127.0.0.1."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def aclose(self) -> None:
        """It answers no more. Safe to call twice."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.Response:
        began_at = datetime.fromtimestamp(time.time(), UTC)
        said = (await request.json())["messages"][-1]["content"]
        asked = _PROMPT.search(said)
        if asked is None:
            return web.json_response({"error": {"message": "Not a question of ours."}}, status=400)
        self.calls.append(Call(asked[1], int(asked[2]), began_at))
        await asyncio.sleep(int(asked[3]) / 1000)
        answer = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        return web.json_response({"model": "counting", "choices": [answer], "usage": usage})
