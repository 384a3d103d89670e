"""Sends prepared requests at their moments, whether earlier ones were answered or not, from a process of its own.

    python -m benchmarks.paced --port 8200 < plan.msgpack

Standard input is a msgpack list of pairs: seconds from the start, and a whole HTTP/1.1 request. Standard output is one
line of JSON, an `Answers`. A connection that is free is used again; if none is, there is one more.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from typing import cast

import msgspec
import uvloop
from msgspec import Struct

from benchmarks.load import is_whole

PATIENCE_SECONDS = 60.0


class Answers(Struct, frozen=True, kw_only=True):
    """`milliseconds` from the moment at which a request should have left to its answer, one for each that had one."""

    milliseconds: list[float]
    statuses: dict[str, int]
    unanswered: int
    connections: int
    latest_milliseconds: float  # that a request left after its moment: much of it, and the client was the bottleneck

    def percentile(self, share: float) -> float:
        """The least figure that `share` (0..1) of the answers did not exceed."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Connection(asyncio.Protocol):
    def __init__(self, sender: _Sender) -> None:
        self._sender = sender
        self._received = b""
        self._due = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, request: bytes, *, due: float) -> None:
        assert self._transport is not None
        self._due, self._received = due, b""
        self._sender.left(due)
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._due and is_whole(self._received):
            self._sender.answered(self._received[9:12].decode(), due=self._due)
            self._due = 0.0
            self._sender.free.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self in self._sender.free:
            self._sender.free.remove(self)
        if self._due:
            self._due = 0.0
            self._sender.unanswered += 1


class _Sender:
    def __init__(self, port: int) -> None:
        self.free: deque[_Connection] = deque()
        self.unanswered = 0
        self._port = port
        self._milliseconds: list[float] = []
        self._statuses: Counter[str] = Counter()
        self._connections = 0
        self._latest = 0.0

    def left(self, due: float) -> None:
        self._latest = max(self._latest, (time.monotonic() - due) * 1000)

    def answered(self, status: str, *, due: float) -> None:
        self._milliseconds.append((time.monotonic() - due) * 1000)
        self._statuses[status] += 1

    async def run(self, plan: Sequence[tuple[float, bytes]]) -> Answers:
        began = time.monotonic() + 0.2
        await asyncio.gather(*(self._one(began + at, request) for at, request in plan))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self._milliseconds) + self.unanswered < len(plan) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return Answers(
            milliseconds=self._milliseconds,
            statuses=dict(self._statuses),
            unanswered=len(plan) - len(self._milliseconds),
            connections=self._connections,
            latest_milliseconds=self._latest,
        )

    async def _one(self, due: float, request: bytes) -> None:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if self.free:
            self.free.popleft().send(request, due=due)
            return
        self._connections += 1
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: _Connection(self), "127.0.0.1", self._port
            )
        except OSError:
            self.unanswered += 1
            return
        connection.send(request, due=due)


def send_at_their_moments(plan: Sequence[tuple[float, bytes]], *, port: int) -> Answers:
    """What a client process found."""
    command = [sys.executable, "-m", "benchmarks.paced", "--port", str(port)]
    ran = subprocess.run(command, input=msgspec.msgpack.encode(plan), stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ran.stdout, type=Answers)


def main() -> None:
    """Read the plan, carry it out, print what came back."""
    parser = argparse.ArgumentParser(description="An HTTP client that keeps to a time-table.")
    parser.add_argument("--port", type=int, required=True)
    wanted = parser.parse_args()
    plan = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[tuple[float, bytes]])
    print(msgspec.json.encode(uvloop.run(_Sender(wanted.port).run(plan))).decode())


if __name__ == "__main__":
    main()
