"""What stands before the framework: addresses with encoded slashes, slow or packed bodies, headers on every answer.

Each guard is plain ASGI: it takes an app and returns one.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

import msgspec
import structlog

from server.domain.errors import TooLarge, TooSlow

# As the ASGI specification writes them; litestar's own types know only what litestar sends.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

BODY_SECONDS = 15.0
UNREAD_SECONDS = 2.0
LARGEST_BODY = 11 * 1024 * 1024

PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", PAGE_POLICY.encode()),
    (b"cache-control", b"no-store"),
]

REQUEST_ID = "prpm.request_id"  # in the scope


def keep_encoded_slashes(app: ASGIApp) -> ASGIApp:
    """A scoped name is one segment: `%40author%2Fpackage` must not turn into two, and `@author/package` is made one."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            raw_path = scope.get("raw_path") or scope["path"].encode()
            if b"%" in raw_path or b"@" in raw_path:
                scope["path"] = routable_path(raw_path)
        await app(scope, receive, send)

    return guarded


def routable_path(raw_path: bytes) -> str:
    """The decoded path, with the slash inside of a scoped name kept as `%2F`."""
    segments = [
        unquote(segment, errors="replace").replace("/", "%2F")
        for segment in raw_path.partition(b"?")[0].decode("latin-1").split("/")
    ]
    joined: list[str] = []
    for segment in segments:
        if joined and joined[-1].startswith("@") and "%2F" not in joined[-1]:
            joined[-1] += "%2F" + segment
        else:
            joined.append(segment)
    return "/".join(joined)


def answer_head(app: ASGIApp) -> ASGIApp:
    """HEAD is answered as GET is, without the body: load balancers and link checkers ask so."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        # A copy: the server looks at its own scope to leave the body out.
        asked = {**scope, "method": "GET"}
        await app(asked, receive, send)
        scope.update({name: asked[name] for name in asked.keys() - scope.keys()})

    return guarded


def limit_bodies(
    app: ASGIApp, *, seconds: float = BODY_SECONDS, largest: int = LARGEST_BODY, unread_seconds: float = UNREAD_SECONDS
) -> ASGIApp:
    """Refuse packed and huge bodies before reading (W11, W12), and those that never end (D2).

    `seconds` bound the whole body; `unread_seconds` is how long a refused one is thrown away before the answer, as
    one that closes while its client still sends is often never read.
    """

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"0")
        if headers.get(b"content-encoding", b"identity").lower() != b"identity":
            await refuse(send, 415, "Send the body as it is, without Content-Encoding.", "unsupported_media_type")
        elif length.isdigit() and int(length) > largest:
            if b"expect" not in headers:
                await _throw_away(receive, seconds=unread_seconds)
            await refuse(send, 413, f"The body has {int(length)} bytes; {largest} are read.", "too_large")
        else:
            await app(scope, _bounded(receive, seconds=seconds, largest=largest), send)

    return guarded


async def _throw_away(receive: Receive, *, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while (await receive()).get("more_body", False):
                pass


def _bounded(receive: Receive, *, seconds: float, largest: int) -> Receive:
    deadline = asyncio.get_running_loop().time() + seconds
    read = 0
    over = False

    async def bounded() -> Message:
        nonlocal read, over
        if over:  # only a disconnect can come now, and it may take its time
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            over = True
            raise TooSlow(f"The body did not arrive within {seconds:g} s.") from None
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            over = not message.get("more_body", False)
            if read > largest:
                raise TooLarge(f"The body has more than {largest} bytes.")
        return message

    return bounded


def add_headers(app: ASGIApp) -> ASGIApp:
    """Security headers and a request id on every answer; the id is in the log lines too."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request_id = secrets.token_hex(8)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in HEADERS if header[0] not in present),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        scope[REQUEST_ID] = request_id
        # Bound for good: the server gives each request a task, and so a context, of its own.
        structlog.contextvars.bind_contextvars(request_id=request_id)
        await app(scope, receive, send_with_headers)

    return guarded


async def refuse(send: Send, status: int, sentence: str, code: str, *, retry_after_seconds: int | None = None) -> None:
    """Answer without asking the framework."""
    body = msgspec.json.encode({"error": sentence, "code": code})
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after_seconds is not None:
        headers.append((b"retry-after", str(retry_after_seconds).encode()))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, (b"connection", b"close")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
