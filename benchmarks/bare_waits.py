"""The control for waiting readers: an ASGI app that holds requests until PostgreSQL notifies it.

    python -m benchmarks.bare_waits --port 8200 --dsn postgresql://...

It knows nobody and reads nothing: what it takes is the price of the server, the connections and the notification.
`/wait` is answered with the next notification's payload; `/events` streams each.
"""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import asyncpg
import uvloop

from server.api.guards import Receive, Scope, Send
from server.http_server import serve
from server.open_files import raise_limit

CHANNEL = "bare_news"


class BareApp:
    """Everybody waits for the same word."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._next: asyncio.Future[str] | None = None
        self._connection: asyncpg.Connection | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/":
            await answer(send, "ready")
        elif scope["path"] == "/wait":
            await answer(send, await asyncio.shield(self._word()))
        else:
            await self._stream(send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._connection = await asyncpg.connect(self._dsn)
        await self._connection.add_listener(CHANNEL, self._hear)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self._connection.terminate()
        await send({"type": "lifespan.shutdown.complete"})

    async def _stream(self, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
        while True:
            word = await asyncio.shield(self._word())
            body = f"event: news\ndata: {word}\n\n".encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})

    def _word(self) -> asyncio.Future[str]:
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        return self._next

    def _hear(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        if self._next is not None:
            self._next.set_result(str(payload))
            self._next = None


async def answer(send: Send, text: str) -> None:
    """A whole answer."""
    body = text.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description="A bare server whose readers wait for a notification.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dsn", required=True)
    wanted = parser.parse_args()
    raise_limit()
    uvloop.run(serve(BareApp(wanted.dsn), host="127.0.0.1", port=wanted.port))


if __name__ == "__main__":
    main()
