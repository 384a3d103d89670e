"""A strict web server for tests: a thread of its own on 127.0.0.1, a log, faults on demand, and violations.

A stand-in of a platform is a subclass with `answer`. Whatever the real platform refuses is refused here as well, and
noted in `violations`, so that a test can say: nothing was sent that would have been refused.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit


class _Server(ThreadingHTTPServer):
    """Says nothing of callers that were killed in the middle of a request."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One request as it came."""

    method: str
    path: str  # still encoded, without the query
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    pairs: tuple[tuple[str, str], ...] = ()  # of the query, where a name may come twice

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the platform says."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = b""  # bytes as they are, all else as JSON


@dataclass
class Fault:
    """What is answered in place of the truth, `times` times, for requests of these methods whose path holds `path`.

    `after`: the request is carried out first, and only its answer is lost.
    """

    answer: Answer | None = None  # None: the connection is closed
    times: int = 1
    methods: tuple[str, ...] = ()
    delay_seconds: float = 0.0
    after: bool = False
    endless: bool = False
    path: str = ""

    def is_for(self, seen: Seen) -> bool:
        return (not self.methods or seen.method in self.methods) and self.path in seen.path


class Refused(Exception):
    """The platform says no to a request that should never have been sent."""

    def __init__(self, answer: Answer, why: str) -> None:
        super().__init__(why)
        self.answer = answer
        self.why = why


class StandIn:
    """The part that all stand-ins share."""

    def __init__(self) -> None:
        self.log: list[Seen] = []
        self.violations: list[str] = []
        self.faults: list[Fault] = []
        self.before_answer: Callable[[Seen], None] | None = None  # for tests that let two jobs meet
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, seen: Seen) -> Answer:
        """What the platform answers; raises Refused."""
        raise NotImplementedError

    def respond(self, seen: Seen) -> tuple[Answer | None, Fault | None]:
        """The answer, or None for a connection that is closed without one."""
        if self.before_answer is not None:
            self.before_answer(seen)
        with self.lock:
            self.log.append(seen)
            fault = next((one for one in self.faults if one.is_for(seen)), None)
            if fault is not None:
                fault.times -= 1
                self.faults = [one for one in self.faults if one.times > 0]
        if fault is not None and not fault.after:
            return fault.answer, fault
        with self.lock:
            try:
                truth: Answer | None = self.answer(seen)
            except Refused as refused:
                self.violations.append(f"{seen.method} {seen.path}: {refused.why}")
                truth = refused.answer
        return (fault.answer if fault is not None else truth), fault

    @contextmanager
    def running(self) -> Iterator[Self]:
        """The server, until the block ends."""
        server = _Server(("127.0.0.1", 0), _handler_of(self))
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(5)
            server.server_close()


def _handler_of(stand_in: StandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            seen = Seen(
                method=self.command,
                path=parts.path,
                query=dict(parse_qsl(parts.query, keep_blank_values=True)),
                pairs=tuple(parse_qsl(parts.query, keep_blank_values=True)),
                headers={name.lower(): value for name, value in self.headers.items()},
                body=self.rfile.read(int(self.headers.get("content-length", 0))),
            )
            answer, fault = stand_in.respond(seen)
            if fault is not None and fault.delay_seconds:
                time.sleep(fault.delay_seconds)
            if answer is None:
                self.close_connection = True
                return
            body = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if fault is not None and fault.endless:
                    self.send_header("Connection", "close")
                    self.end_headers()
                    self.close_connection = True
                    for _ in range(100_000):
                        self.wfile.write(b"x" * 65_536)
                    return
                if answer.status != 204:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if answer.status != 204:
                    self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the other side had enough

        do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any  # noqa: N815 -- http.server looks for these names

        def log_message(self, *args: Any) -> None:
            pass

    return Handler


def closed(body: Any, fields: Mapping[str, Callable[[Any], bool]], *, required: tuple[str, ...] = ()) -> list[str]:
    """What is wrong with an object that may have these fields and no others; a check says whether a value is right."""
    if not isinstance(body, dict):
        return ["the body is no object"]
    wrong = [f"{name} is unknown" for name in body if name not in fields]
    wrong += [f"{name} is missing" for name in required if name not in body]
    wrong += [f"{name} is not accepted" for name, check in fields.items() if name in body and not check(body[name])]
    return wrong


def text(limit: int, *, max_bytes: int | None = None) -> Callable[[Any], bool]:
    """Text of at most so many UTF-16 units, not empty."""
    return lambda value: (
        isinstance(value, str)
        and 0 < len(value.encode("utf-16-le", "surrogatepass")) // 2 <= limit
        and (max_bytes is None or len(value.encode()) <= max_bytes)
    )


def one_of(*words: object) -> Callable[[Any], bool]:
    return lambda value: value in words


def is_whole_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
