"""Many connections that each wait for one word, from a process of its own.

    python -m benchmarks.waiters --port 8200 --connections 2500 --word completed < request

Standard input is one whole HTTP/1.1 request, sent on every connection, and again when an answer comes without the
word. Prints `open` once all are connected and have asked, and at the end one line of JSON: when the word came, in
seconds since 1970, one figure a connection.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import cast

import msgspec
import uvloop

from benchmarks.load import is_whole
from server.open_files import raise_limit

OPENED_AT_ONCE = 100
PATIENCE_SECONDS = 60.0


class _Waiter(asyncio.Protocol):
    """Asks, and waits for the word. `streams`: an answer without it goes on."""

    def __init__(self, request: bytes, word: bytes, *, streams: bool) -> None:
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.heard: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._request = request
        self._word = word
        self._streams = streams
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)
        self._ask()
        if not self._streams:
            self.began.set_result(None)

    def data_received(self, data: bytes) -> None:
        if not self.began.done():
            self.began.set_result(None)
        self._received += data
        if self._word in self._received:
            self._received = b""
            if not self.heard.done():
                self.heard.set_result(time.time())
        elif not self._streams and is_whole(self._received):
            self._received = b""
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.began, self.heard):
            if not future.done():
                future.set_exception(exc or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        assert self._transport is not None
        self._transport.write(self._request)


async def _wait_all(request: bytes, *, port: int, connections: int, word: str, streams: bool) -> list[float]:
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open_one() -> _Waiter:
        async with gate:
            _, waiter = await loop.create_connection(
                lambda: _Waiter(request, word.encode(), streams=streams), "127.0.0.1", port
            )
            await waiter.began
            return waiter

    async with asyncio.timeout(PATIENCE_SECONDS):
        waiters = await asyncio.gather(*(open_one() for _ in range(connections)))
        print("open", flush=True)
        return await asyncio.gather(*(waiter.heard for waiter in waiters))


def main() -> None:
    """Read the request, wait, print when the word came."""
    parser = argparse.ArgumentParser(description="Connections that wait for a word.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--word", required=True)
    parser.add_argument("--streams", action="store_true")
    wanted = parser.parse_args()
    raise_limit()
    heard = uvloop.run(
        _wait_all(
            sys.stdin.buffer.read(),
            port=wanted.port,
            connections=wanted.connections,
            word=wanted.word,
            streams=wanted.streams,
        )
    )
    print(msgspec.json.encode(heard).decode())


if __name__ == "__main__":
    main()
