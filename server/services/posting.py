"""The service's driver of what is written as requests and responses: notifiers and forges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from typing import TypeVar

import httpx

from notifiers import NoResponse, Request, Response
from notifiers._http import Patience, TooLargeAnswer, pause_before_retry
from server.services.certificates import trusted_certificates

Result = TypeVar("Result")

# The caller's outbox tries again over hours; here only what a moment heals is waited for, so that no slot is held.
SHORT_PATIENCE = Patience(tries=3, pauses_seconds=5.0)


def posting_client() -> httpx.AsyncClient:
    """A client for messages: no proxy or certificate from the environment, no redirects, few connections."""
    return httpx.AsyncClient(
        verify=trusted_certificates(),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113 -- each request brings its own limit, over all of it
        limits=httpx.Limits(max_connections=50, max_keepalive_connections=10),
    )


async def post(
    messages: Generator[Request, Response, Result],
    *,
    client: httpx.AsyncClient,
    patience: Patience = SHORT_PATIENCE,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Result:
    """Carry out the requests and return what the generator does (a notifier: its receipt).

    Raises what the generator raises: CannotNotify or CannotRead, which say whether to try later.
    """
    try:
        request = next(messages)
        while True:
            try:
                response = await _with_retries(request, client, patience, sleep)
            except NoResponse as error:
                request = messages.throw(error)
            else:
                request = messages.send(response)
    except StopIteration as done:
        result: Result = done.value
        return result
    finally:
        messages.close()


async def _with_retries(
    request: Request, client: httpx.AsyncClient, patience: Patience, sleep: Callable[[float], Awaitable[None]]
) -> Response:
    paused, tries = 0.0, 0
    while True:
        tries += 1
        outcome = await _try(request, client)
        response = outcome if isinstance(outcome, Response) else None
        pause = pause_before_retry(request, response, tries=tries, paused_seconds=paused, patience=patience)
        if pause is None:
            if isinstance(outcome, NoResponse):
                raise outcome
            return outcome
        await sleep(pause)
        paused += pause


async def _try(request: Request, client: httpx.AsyncClient) -> Response | NoResponse:
    try:
        async with asyncio.timeout(request.timeout_seconds):
            return await _send(request, client)
    except NoResponse as failure:
        return failure
    # The reason's class and no more: its text may hold the address.
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return NoResponse(f"{request.origin} did not answer ({type(error).__name__}).")


async def _send(request: Request, client: httpx.AsyncClient) -> Response:
    headers = {"Accept-Encoding": "identity", **request.headers}  # a small body may not become a large one
    async with client.stream(
        request.method, request.url, content=request.body, headers=headers, follow_redirects=False
    ) as answer:
        pieces: list[bytes] = []
        size = 0
        async for piece in answer.aiter_raw():
            pieces.append(piece)
            size += len(piece)
            if size > request.max_answer_bytes:
                raise TooLargeAnswer(f"{request.origin} answered more than {request.max_answer_bytes:,} bytes.")
        return Response(
            status=answer.status_code,
            headers={name.lower(): value for name, value in answer.headers.items()},
            body=b"".join(pieces),
        )
