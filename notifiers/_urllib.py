"""The driver on the standard library: what the Action runs, where nothing can be installed."""

from __future__ import annotations

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable

from notifiers._http import Messages, NoResponse, Patience, Receipt, Request, Response, pause_before_retry

Send = Callable[[Request], Response]


def drive(
    messages: Messages,
    *,
    send: Send | None = None,
    patience: Patience | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Receipt:
    """Carry out a notifier's requests and return its receipt. Raises CannotNotify.

    `send` makes one request (by default `opener()`), or raises NoResponse.
    """
    send = send or opener()
    patience = patience or Patience()
    try:
        request = next(messages)
        while True:
            try:
                response = _with_retries(request, send, patience, sleep)
            except NoResponse as error:
                request = messages.throw(error)
            else:
                request = messages.send(response)
    except StopIteration as done:
        receipt: Receipt = done.value
        return receipt
    finally:
        messages.close()


def _with_retries(request: Request, send: Send, patience: Patience, sleep: Callable[[float], None]) -> Response:
    paused, tries = 0.0, 0
    while True:
        tries += 1
        response, failure = _try(request, send)
        pause = pause_before_retry(request, response, tries=tries, paused_seconds=paused, patience=patience)
        if pause is None:
            if response is None:
                raise failure or NoResponse(f"{request.origin} did not answer.")
            return response
        sleep(pause)
        paused += pause


def _try(request: Request, send: Send) -> tuple[Response | None, NoResponse | None]:
    try:
        return send(request), None
    except NoResponse as failure:
        return None, failure


def opener(*, use_proxies: bool = True) -> Send:
    """Makes requests by http and https, through the proxy of the environment if there is one. Follows no redirect.

    The system's certificates and SSL_CERT_FILE are honoured.
    """
    director = urllib.request.OpenerDirector()
    director.add_handler(urllib.request.ProxyHandler() if use_proxies else urllib.request.ProxyHandler({}))
    director.add_handler(urllib.request.HTTPHandler())
    director.add_handler(urllib.request.HTTPSHandler())

    def send(request: Request) -> Response:
        wanted = urllib.request.Request(  # noqa: S310 -- the director has no handler for files
            request.url, data=request.body, headers=dict(request.headers), method=request.method
        )
        deadline = time.monotonic() + request.timeout_seconds
        try:
            answer = director.open(wanted, timeout=request.timeout_seconds)
            if answer is None:
                raise NoResponse(f"{request.origin} is no address of the web.")
            with answer:
                headers = {name.lower(): value for name, value in answer.headers.items()}
                return Response(status=answer.status, headers=headers, body=_read(answer, request, deadline))
        except (OSError, http.client.HTTPException, ValueError) as error:
            # The reason's class and no more: its text may hold the address.
            reason = getattr(error, "reason", None)
            cause = reason if isinstance(reason, Exception) else error
            raise NoResponse(f"{request.origin} did not answer ({type(cause).__name__}).") from None

    return send


def _read(answer: http.client.HTTPResponse, request: Request, deadline: float) -> bytes:
    """The body, piece by piece, as a time limit of the socket's holds for one piece only."""
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read1(64 * 1024):
        pieces.append(piece)
        size += len(piece)
        if size > request.max_answer_bytes:
            raise NoResponse(f"{request.origin} answered more than {request.max_answer_bytes:,} bytes.")
        if time.monotonic() > deadline:
            raise NoResponse(f"{request.origin} did not finish its answer in {request.timeout_seconds:g} s.")
    return b"".join(pieces)
