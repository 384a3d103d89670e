"""Stands between the service and PostgreSQL: swallows the answer to a statement that was carried out, or cuts one off.

It reads the frames of PostgreSQL's protocol (https://www.postgresql.org/docs/18/protocol-message-formats.html) only as
far as it must to know which statement runs. A socket of our own folder, as the database trusts whoever reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from pathlib import Path
from urllib.parse import quote

SOCKET_NAME = ".s.PGSQL.5432"

# What may be swallowed: a name for people, and the text by which the statement is known.
WRITES = {
    "submit": b"INSERT INTO submissions",
    "store trials": b"INSERT INTO trials",
    "finish": b"INSERT INTO job_outcomes",
    "claim": b"claim_next_job",
}


class DatabaseProxy:
    """Each process has a door of its own, so that one can be cut off while the others go on."""

    def __init__(self, folder: Path, *, upstream: Path) -> None:
        """`upstream` is the folder of PostgreSQL's own socket."""
        folder.mkdir(mode=0o700)
        self.swallowed: Counter[str] = Counter()
        self._folder = folder
        self._upstream = upstream / SOCKET_NAME
        self._armed: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._doors: dict[str, asyncio.Event] = {}  # set: what comes may pass
        self._links: set[asyncio.Task[None]] = set()

    def dsn(self, door: str) -> str:
        """What the process behind this door connects to."""
        return f"postgresql://postgres@/postgres?host={quote(str(self._folder / door), safe='/')}"

    async def open(self, door: str) -> None:
        """It listens there."""
        (self._folder / door).mkdir()
        self._doors[door] = asyncio.Event()
        self.resume(door)
        accept = functools.partial(self._accept, self._doors[door])
        self._servers.append(await asyncio.start_unix_server(accept, self._folder / door / SOCKET_NAME))

    def stall(self, door: str) -> None:
        """Nothing passes in either direction; connections stay, and what is sent waits."""
        self._doors[door].clear()

    def resume(self, door: str) -> None:
        """What waited arrives, however late. Safe to call twice."""
        self._doors[door].set()

    def resume_all(self) -> None:
        """Every door is open."""
        for door in self._doors:
            self.resume(door)

    async def aclose(self) -> None:
        """It listens no more, and every connection is cut."""
        for server in self._servers:
            server.close()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def swallow(self, kind: str) -> None:
        """The answer to the next statement of this kind never arrives, and its connection breaks."""
        self._armed[kind] += 1

    def take_armed(self, statement: bytes) -> str | None:
        """The kind for which this statement's answer is to be swallowed; it is disarmed by that."""
        for kind, words in WRITES.items():
            if self._armed[kind] and words in statement:
                self._armed[kind] -= 1
                self.swallowed[kind] += 1
                return kind
        return None

    async def _accept(self, is_open: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._links.add(task)
        try:
            # asyncio's streams complain of a handler that ends by cancellation.
            with contextlib.suppress(asyncio.CancelledError):
                await self._link(is_open, reader, writer)
        finally:
            self._links.discard(task)

    async def _link(self, is_open: asyncio.Event, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_unix_connection(self._upstream)
        except OSError:  # PostgreSQL is away
            writer.transport.abort()
            return
        link = _Link(self, is_open, client=(reader, writer), upstream=upstream)
        both = [asyncio.create_task(link.forward()), asyncio.create_task(link.answer())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            writer.transport.abort()
            upstream[1].transport.abort()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Link:
    """One connection of the service, with its own to PostgreSQL."""

    def __init__(self, proxy: DatabaseProxy, is_open: asyncio.Event, *, client: Ends, upstream: Ends) -> None:
        self._proxy = proxy
        self._is_open = is_open
        self._from_client, self._to_client = client
        self._from_server, self._to_server = upstream
        self._statements: dict[bytes, bytes] = {}
        self._swallowing = False

    async def forward(self) -> None:
        """What the service sends. Returns when either side is gone."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            length = await self._from_client.readexactly(4)  # the first message has no type
            await self._send(self._to_server, length + await self._from_client.readexactly(_body_bytes(length)))
            while True:
                kind, message = await _read_message(self._from_client)
                if self._is_to_be_swallowed(kind, message[5:]):
                    self._swallowing = True
                await self._send(self._to_server, message)

    async def answer(self) -> None:
        """What PostgreSQL says. Returns when either side is gone, or once a swallowed answer is complete."""
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while True:
                kind, message = await _read_message(self._from_server)
                if not self._swallowing:
                    await self._send(self._to_client, message)
                elif kind == b"Z":  # ready for the next query: what was asked is done and committed
                    return

    def _is_to_be_swallowed(self, kind: bytes, body: bytes) -> bool:
        if kind == b"P":  # parse: a name, then the statement
            name, _, rest = body.partition(b"\0")
            self._statements[name] = rest.partition(b"\0")[0]
        elif kind == b"B":  # bind: a portal, then the statement's name
            statement = self._statements.get(body.split(b"\0", 2)[1], b"")
            return self._proxy.take_armed(statement) is not None
        elif kind == b"Q":
            return self._proxy.take_armed(body) is not None
        return False

    async def _send(self, writer: asyncio.StreamWriter, message: bytes) -> None:
        await self._is_open.wait()
        writer.write(message)
        await writer.drain()


async def _read_message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(5)
    return head[:1], head + await reader.readexactly(_body_bytes(head[1:]))


def _body_bytes(length: bytes) -> int:
    """The length on the wire counts itself."""
    return int.from_bytes(length) - 4
