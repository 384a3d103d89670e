"""An HTTP session that stops reading an answer longer than any model writes: for libraries that read to the end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from aiohttp.connector import Connection

LARGEST_ANSWER = 4 * 2**20  # bytes
# Compressed bytes become up to a thousand times as many, and somebody else unpacks them.
LARGEST_COMPRESSED = 64 * 2**10

# The library in between turns every error into one of its own: who set a list here finds in it what was too long.
floods: ContextVar[list[str] | None] = ContextVar("floods", default=None)


def bounded_session() -> aiohttp.ClientSession:
    """A session without limits of its own, but for the length of answers. To be closed by who made it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        response_class=_BoundedResponse,
    )


class _TooLong(Exception):
    pass


class _BoundedResponse(aiohttp.ClientResponse):
    """Its `content` is read in pieces by `iter_chunked`; no more than the limit of it."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        await super().start(connection)
        is_compressed = self.headers.get("Content-Encoding", "identity") != "identity"
        limit = LARGEST_COMPRESSED if is_compressed else LARGEST_ANSWER
        self.content = _Bounded(self.content, limit)  # type: ignore[assignment]  # stands for it, see __getattr__
        return self


class _Bounded:
    """A stream that raises when more than `limit` bytes were read from it."""

    def __init__(self, stream: aiohttp.StreamReader, limit: int) -> None:
        self._stream = stream
        self._left = limit

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        async for piece in self._stream.iter_chunked(size):
            self._left -= len(piece)
            if self._left < 0:
                if (known := floods.get()) is not None:
                    known.append("too long")
                raise _TooLong
            yield piece

    def __getattr__(self, name: str) -> Any:
        # What else the client itself does with its stream.
        return getattr(self._stream, name)
