"""The mock model server in this process, on a free port of 127.0.0.1: for async tests, or in a thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from benchmarks.mock_model import MockModel, serve


@dataclass(frozen=True)
class ModelServer:
    """`url` is the server's root; `mock` holds what it saw and what it shall do (see its module)."""

    url: str
    mock: MockModel

    @property
    def base_url(self) -> str:
        return f"{self.url}/v1"


@asynccontextmanager
async def model_server(*, latency_ms: float = 0.0, port: int = 0) -> AsyncIterator[ModelServer]:
    """A server in the running event loop."""
    mock = MockModel(latency_ms=latency_ms)
    runner, url = await serve(mock, port=port)
    try:
        yield ModelServer(url, mock)
    finally:
        await runner.cleanup()


@contextmanager
def model_server_in_thread(*, latency_ms: float = 0.0, port: int = 0) -> Iterator[ModelServer]:
    """A server in a thread of its own, for tests that block: a command in a subprocess, say."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    mock = MockModel(latency_ms=latency_ms)
    runner, url = asyncio.run_coroutine_threadsafe(serve(mock, port=port), loop).result(10)
    try:
        yield ModelServer(url, mock)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
