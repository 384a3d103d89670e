"""Requests that wait for a job: lean, as ten thousand of them fit into one process.

A waiting request is one task that awaits its client's disconnect. Whoever wakes it lets that await come back; nothing
is cancelled and nothing raised, and the answer leaves in one piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, Protocol

import msgspec
from litestar import Response

from server.api.errors import ErrorBody, service_error
from server.api.guards import HEADERS, REQUEST_ID, ASGIApp, Receive, Scope, Send
from server.domain.errors import ServiceError
from server.domain.jobs import JobView
from server.services.watching import JobWatch, Story, version_of

Woken = Literal["news", "late", "gone"]


LATER = "prpm.later"
EXCHANGE = "prpm.exchange"
# What the framework leaves in a scope. A waiting request has no use for it.
LEFTOVERS = (
    "_ls_connection_state", "app", "auth", "litestar_app", "path_params", "path_template", "route_handler", "session",
    "state", "user",
)  # fmt: skip


class Exchange(Protocol):
    """What our server adds to a request's scope (server/http_server.py)."""

    def rouse(self) -> None:
        """`receive` comes back now."""

    def answer(self, headers: bytes, body: bytes) -> bool:
        """Whether the whole answer, status 200, is on its way."""


class LateResponse(Response[Any]):
    """For a handler whose answer is an ASGI app that sends its own head. `wait_outside` runs it."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(None)
        self._app = app

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Hands the app over."""

        async def hand_over(scope: Scope, _receive: Receive, _send: Send) -> None:
            scope[LATER] = self._app

        return hand_over


def wait_outside(app: ASGIApp) -> ASGIApp:
    """Requests that wait do so here, when all that the framework held for them is gone: half of their memory."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        later = scope.pop(LATER, None)
        if later is None:
            return
        for name in LEFTOVERS:
            scope.pop(name, None)
        try:
            await later(scope, receive, send)
        except ServiceError as error:  # none is raised once the answer has begun
            await send_refusal(send, service_error(None, error))

    return guarded


async def send_refusal(send: Send, refusal: Response[ErrorBody]) -> None:
    """The answer that the framework would have sent."""
    body = msgspec.json.encode(refusal.content)
    headers = [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": refusal.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


class WaitingReader:
    """A request that waits for a change of a job (see services/watching.py)."""

    __slots__ = ("_exchange", "_is_late", "_is_woken", "known", "reads_trials")

    def __init__(self, exchange: Exchange, *, known: str | None, reads_trials: bool = False) -> None:
        self.known = known
        self.reads_trials = reads_trials
        self._exchange = exchange
        self._is_woken = False
        self._is_late = False

    def wake(self) -> None:
        """The wait ends with the loop's next turn, or the next one before it begins."""
        self._is_woken = True
        self._exchange.rouse()

    async def wait(self, receive: Receive, *, seconds: float) -> Woken:
        """Why it ended: there is news, nothing came in time, or the client is gone."""
        self._is_late = False
        limit = asyncio.get_running_loop().call_later(seconds, self._expire)
        try:
            while not (self._is_woken or self._is_late):
                if (await receive())["type"] == "http.disconnect":
                    return "gone"
        finally:
            limit.cancel()
        if not self._is_woken:
            return "late"
        self._is_woken = False
        return "news"

    def _expire(self) -> None:
        self._is_late = True
        self._exchange.rouse()


class WaitForJob:
    """Answers with the job when it has ended, differs from `known`, or after `seconds`. `shown` makes the body."""

    __slots__ = ("_known", "_seconds", "_shown", "_view", "_watch")

    def __init__(
        self, watch: JobWatch, view: JobView, *, known: str | None, seconds: float, shown: Callable[[JobView], Any]
    ) -> None:
        self._watch = watch
        self._view = view
        self._known = known
        self._seconds = seconds
        self._shown = shown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = WaitingReader(scope[EXCHANGE], known=self._known)
        story = self._watch.join(self._view.id, reader)
        try:
            woken = await reader.wait(receive, seconds=self._seconds)
            if woken == "late":
                await self._watch.refresh(story)
        finally:
            self._watch.leave(self._view.id, reader)
        if woken != "gone":
            await self._answer(story, scope, send)

    async def _answer(self, story: Story, scope: Scope, send: Send) -> None:
        view = story.view or self._view
        if story.answer is None:
            story.answer = msgspec.json.encode(self._shown(view))
        version = version_of(view)
        if version == self._known:
            await send_whole(send, status=304, body=b"", version=version)
        elif scope["method"] == "HEAD" or not answer_at_once(scope, body=story.answer, version=version):
            await send_whole(send, status=200, body=story.answer, version=version)


# What the framework's way adds to every answer.
USUAL_HEADERS = b"".join(b"%s: %s\r\n" % header for header in [*HEADERS, (b"content-type", b"application/json")])


def answer_at_once(scope: Scope, *, body: bytes, version: str) -> bool:
    """Whether a JSON answer with its ETag, status 200, is on its way."""
    exchange: Exchange = scope[EXCHANGE]
    own = f"etag: {etag(version)}\r\ncontent-length: {len(body)}\r\nx-request-id: {scope[REQUEST_ID]}\r\n"
    return exchange.answer(USUAL_HEADERS + own.encode(), body)


async def send_whole(send: Send, *, status: int, body: bytes, version: str) -> None:
    """A JSON answer with its ETag."""
    headers = [(b"etag", etag(version).encode())]
    if status != 304:
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def not_modified(version: str) -> ASGIApp:
    """Answers that the job is as the caller knows it."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send_whole(send, status=304, body=b"", version=version)

    return answer


def etag(version: str) -> str:
    """The version as an entity tag: weak, as the bytes may differ between releases."""
    return f'W/"{version}"'


def known_version(if_none_match: str | None) -> str | None:
    """The version that the caller has seen, None if it does not say. Of several tags the first counts."""
    if if_none_match is None:
        return None
    return if_none_match.split(",")[0].strip().removeprefix("W/").strip('"')
