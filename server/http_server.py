"""uvicorn with what it lacks: limits on a request's head (D1, D9), an end for bodies that nobody reads (D2), errors
in the contract's form, and an end of its own that lets our clean-up run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import weakref
from collections.abc import Generator
from http import HTTPStatus
from typing import Any, cast

import msgspec
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.api.guards import HEADERS, ASGIApp


class HeadTooLarge(Exception):
    """The request line and the headers are more than anybody sends."""


class Exchange:
    """One request and its answer, for apps that wait in thousands (`server.api.waiting`)."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        # Weak, as the cycle holds the scope that holds us: a circle would keep each request until the collector
        # comes by, which is seldom.
        self._cycle = weakref.ref(cycle)

    def rouse(self) -> None:
        """A `receive` that waits for the client's end comes back now, without any news of it."""
        if cycle := self._cycle():
            cycle.message_event.set()

    def answer(self, headers: bytes, body: bytes) -> bool:
        """Whether the whole answer is on its way, status 200, in one piece and unchecked. Else send it as usual.

        What the server does for an answer in two messages took most of the time that ten thousand of them take.
        """
        cycle = self._cycle()
        if (
            cycle is None
            or not cycle.keep_alive
            or cycle.response_started
            or cycle.disconnected
            or cycle.flow.write_paused
        ):
            return False
        default = b"".join(b"%s: %s\r\n" % header for header in cycle.default_headers)
        cycle.transport.write(b"HTTP/1.1 200 OK\r\n" + default + headers + b"\r\n" + body)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True


class PatientProtocol(HttpToolsProtocol):
    """Closes a connection whose request does not come in time, and refuses what is no proper HTTP."""

    header_seconds = 10.0  # for all headers of a request, however they trickle in
    unread_seconds = 1.0  # for a body that goes on after its answer
    last_look_seconds = 0.05
    largest_head = 64 * 1024  # bytes
    most_headers = 100

    _timer: asyncio.TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _unfinished_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._close_in(self.header_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stay_open()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        was_in_head = self._in_head
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._timer is None and self._waits_for_headers():
            self._close_in(self.header_seconds)
        # The parser gathers a header that has no end without telling us of it.
        self._unfinished_bytes = self._unfinished_bytes + len(data) if was_in_head and self._in_head else 0
        if self._unfinished_bytes > self.largest_head:
            self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + len(b": \r\n"))
        if len(self.headers) >= self.most_headers:
            raise HeadTooLarge
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stay_open()
        super().on_headers_complete()
        scope = cast(dict[str, Any], self.scope)
        # For an app whose client takes nothing: closing would wait until it does.
        scope["prpm.abort"] = self.transport.abort
        scope["prpm.exchange"] = Exchange(self.cycle)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        if self.cycle.response_complete:  # the rest of an unread body has come: the connection may be used again
            self.cycle.more_body = False
            self._stay_open()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._close_in(self.unread_seconds)

    def send_400_response(self, msg: str) -> None:
        """Called when the parser gives up, also on our own HeadTooLarge."""
        too_large = self._head_bytes > self.largest_head or len(self.headers or ()) >= self.most_headers
        self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST)

    def refuse(self, status: HTTPStatus) -> None:
        """Answer without the app, and close. What an answer under way has sent so far is not added to."""
        if not self._is_answering():
            self.transport.write(refusal(status))
        self.transport.close()

    def _count(self, more: int) -> None:
        self._head_bytes += more
        if self._head_bytes > self.largest_head:
            raise HeadTooLarge

    def _is_answering(self) -> bool:
        return self.cycle is not None and self.cycle.response_started and not self.cycle.response_complete

    def _waits_for_headers(self) -> bool:
        return self.cycle is None or (self.cycle.response_complete and not self.cycle.more_body)

    def _close_in(self, seconds: float) -> None:
        self._stay_open()
        self._timer = self.loop.call_later(seconds, self._close_soon)

    def _close_soon(self) -> None:
        """What came while the process was too busy to read it is read first."""
        self._timer = self.loop.call_later(self.last_look_seconds, self.transport.close)

    def _stay_open(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


REFUSALS = {
    HTTPStatus.BAD_REQUEST: "This is not a proper HTTP request.",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: "The request has more or larger headers than are read.",
}


def refusal(status: HTTPStatus) -> bytes:
    """A whole answer in the contract's form, for requests that the app never sees."""
    body = msgspec.json.encode({"error": REFUSALS[status], "code": "invalid_http"})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *HEADERS,
    ]
    lines = [f"HTTP/1.1 {status.value} {status.phrase}".encode(), *(b": ".join(header) for header in headers)]
    return b"\r\n".join([*lines, b"", body])


class Server(uvicorn.Server):
    """Stops on SIGTERM and Ctrl-C without raising the signal again, which would skip every `finally` around it.

    `stopping` is set first, so that requests that wait for something can end before their time to do so is over.
    """

    def __init__(self, config: uvicorn.Config, *, stopping: asyncio.Event | None = None) -> None:
        super().__init__(config)
        self._stopping = stopping or asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Ready for requests."""
        await super().startup(sockets)
        collect_less()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        loop = asyncio.get_running_loop()

        def stop() -> None:
            self.should_exit = True
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


def collect_less() -> None:
    """Look for garbage in cycles less often, and never among what was loaded at the start.

    With ten thousand requests open, the collector's usual pace was measured to take half of the process's time: it
    goes through all of them again and again, though next to nothing of theirs is in a cycle.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)


async def serve(app: ASGIApp, *, host: str, port: int, stopping: asyncio.Event | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C, which set `stopping`; running requests have 3 s to end."""
    await Server(configure(app, host=host, port=port), stopping=stopping).serve()


def configure(
    app: ASGIApp, *, host: str, port: int, protocol: type[PatientProtocol] = PatientProtocol
) -> uvicorn.Config:
    """uvicorn's settings."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol,
        ws="none",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=3,
        h11_max_incomplete_event_size=32 * 1024,
        backlog=2048,
    )
