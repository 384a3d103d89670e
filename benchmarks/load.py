"""Sends prepared requests over kept connections, as fast as they are answered, from a process of its own.

    python -m benchmarks.load --port 8200 --connections 32 < requests.msgpack

Standard input is a msgpack list of whole HTTP/1.1 requests; standard output one line of JSON, a `Load`.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import msgspec
import uvloop
from msgspec import Struct


class Load(Struct, frozen=True, kw_only=True):
    """What came back. `cpu_seconds` is the client's own: near `seconds` it was the bottleneck."""

    seconds: float
    cpu_seconds: float
    statuses: dict[str, int]


class _Connection(asyncio.Protocol):
    """One request after the other; answers must carry Content-Length, as ours do."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[str], finished: asyncio.Future[None]) -> None:
        self._requests = requests
        self._statuses = statuses
        self._finished = finished
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send_next(self) -> None:
        request = next(self._requests, None)
        if request is not None and self._transport is not None:
            self._transport.write(request)
        elif not self._finished.done():
            self._finished.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if is_whole(self._received):
            self._statuses[self._received[9:12].decode()] += 1
            self._received = b""
            self.send_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._finished.done():
            self._finished.set_exception(exc or ConnectionError("the server closed the connection"))


def is_whole(answer: bytes) -> bool:
    """Whether nothing of an answer with Content-Length is missing."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    return bool(separator) and len(body) >= _content_length(head)


def _content_length(head: bytes) -> int:
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def _send_all(requests: Sequence[bytes], *, port: int, connections: int) -> Load:
    loop = asyncio.get_running_loop()
    statuses: Counter[str] = Counter()
    waiting = iter(requests)
    ends = [loop.create_future() for _ in range(connections)]
    opened = [
        (await loop.create_connection(lambda end=end: _Connection(waiting, statuses, end), "127.0.0.1", port))[1]  # type: ignore[misc]  # mypy cannot infer a lambda with a default
        for end in ends
    ]
    wall, cpu = time.monotonic(), time.process_time()
    for connection in opened:
        connection.send_next()
    await asyncio.gather(*ends)
    return Load(seconds=time.monotonic() - wall, cpu_seconds=time.process_time() - cpu, statuses=dict(statuses))


def http_request(method: str, path: str, *, body: object = None, headers: Mapping[str, str] | None = None) -> bytes:
    """A whole request; `body` is sent as JSON."""
    payload = b"" if body is None else msgspec.json.encode(body)
    lines = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(payload)}",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + payload


def send_from_own_process(requests: Sequence[bytes], *, port: int, connections: int) -> Load:
    """What a client process found. Raises CalledProcessError when a connection broke."""
    command = [sys.executable, "-m", "benchmarks.load", "--port", str(port), "--connections", str(connections)]
    ran = subprocess.run(command, input=msgspec.msgpack.encode(requests), stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ran.stdout, type=Load)


def main() -> None:
    """Read the requests, send them, print what came back."""
    parser = argparse.ArgumentParser(description="A light HTTP client.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    wanted = parser.parse_args()
    requests = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[bytes])
    load = uvloop.run(_send_all(requests, port=wanted.port, connections=wanted.connections))
    print(msgspec.json.encode(load).decode())


if __name__ == "__main__":
    main()
