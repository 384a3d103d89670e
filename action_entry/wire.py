"""Requests to the service: bounded tries with jitter, answers of bounded size, and a stream of events.

The environment's proxies, the system's certificates and SSL_CERT_FILE are honoured; no redirect is followed, so that a
token reaches the one server that it is for.
"""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from action_entry.errors import NotNow
from action_entry.inputs import LOOPBACK
from notifiers import NoResponse, Request, Response
from notifiers._http import USER_AGENT, is_rate_limited, retry_hint_seconds
from notifiers._urllib import Send, opener

TRIES = 5
LONGEST_PAUSE_SECONDS = 15.0
MOST_EVENT_BYTES = 1_000_000
_TRY_AGAIN = frozenset({500, 502, 503, 504})


@dataclass(frozen=True, kw_only=True)
class Event:
    """One server-sent event; a sign of life has no name."""

    id: str = ""
    name: str = ""
    data: str = ""


@dataclass
class Clock:
    """Time and chance, as an argument. `deadline` is None as long as nothing limits the whole."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = field(default=random.random)  # 0 to 1; spreads tries, protects nothing
    deadline: float | None = None

    def left(self) -> float:
        """Seconds until the deadline; raises NotNow when there are none."""
        if self.deadline is None:
            return float("inf")
        left = self.deadline - self.now()
        if left <= 0:
            raise NotNow("The time-out was reached before the results were there.", code="timeout")
        return left

    def pause(self, seconds: float) -> None:
        """Sleep, but not beyond the deadline."""
        self.sleep(max(min(seconds, self.left()), 0.0))


class Wire:
    """One server. `token` may change when a short one was renewed."""

    def __init__(self, base_url: str, *, clock: Clock, send: Send | None = None) -> None:
        self.base_url = base_url
        self.clock = clock
        self.token = ""
        # The environment's proxies are for the world outside; asked for 127.0.0.1, one looks at itself.
        self._use_proxies = urlsplit(base_url).hostname not in LOOPBACK
        self._send = send or opener(use_proxies=self._use_proxies)

    def call(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = 30.0,
        max_answer_bytes: int = 2 * 1024 * 1024,
        tries: int = TRIES,
    ) -> Response:
        """The answer, whatever its status. Tried again after none, 429 and 5xx; raises NotNow after so many tries.

        Every request here may be sent twice: submits carry a key, and snapshots are named by what they hold.
        """
        request = Request(
            method=method,
            url=self.base_url + path,
            headers=self._headers() | dict(headers or {}),
            body=body,
            timeout_seconds=timeout_seconds,
            max_answer_bytes=max_answer_bytes,
        )
        for number in range(1, tries + 1):
            response, why = self._try(request)
            if response is not None and not (response.status in _TRY_AGAIN or is_rate_limited(response)):
                return response
            if number < tries:
                self.clock.pause(self._pause_seconds(response, number=number))
        raise NotNow(f"{why} It was asked {tries} times.", code="service_unavailable")

    def _try(self, request: Request) -> tuple[Response | None, str]:
        left = self.clock.left()
        try:
            response = self._send(_within(request, left))
        except NoResponse as error:
            return None, error.message
        return response, f"{request.origin} answered with HTTP {response.status}."

    def _pause_seconds(self, response: Response | None, *, number: int) -> float:
        """0.5 s, 1 s, 2 s and so on, each made longer by chance; or what the server asks for, up to 15 s."""
        if response is not None and "retry-after" in response.headers:
            return min(retry_hint_seconds(response), LONGEST_PAUSE_SECONDS) + self.clock.chance()
        growing = 0.5 * 2.0 ** (number - 1)
        return min(growing * (1 + self.clock.chance()), LONGEST_PAUSE_SECONDS)

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": USER_AGENT, "Accept": "application/json"}
        return headers | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    @contextmanager
    def events(self, path: str, *, after: str, silence_seconds: float) -> Iterator[Iterator[Event]]:
        """The events behind `after` as they come, until the other side ends them.

        Raises NoResponse when there are none to be had, or after so many seconds of silence.
        """
        headers = self._headers() | {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after else {})
        wanted = urllib.request.Request(self.base_url + path, headers=headers)  # noqa: S310 -- no handler for files
        try:
            answer = _director(use_proxies=self._use_proxies).open(
                wanted, timeout=min(silence_seconds, self.clock.left())
            )
            if answer is None:
                raise NoResponse("This is no address of the web.")
            with answer:
                kind = answer.headers.get("content-type", "")
                if answer.status != 200 or not kind.startswith("text/event-stream"):
                    raise NoResponse("No events are sent.")
                yield _read_events(answer)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NoResponse(f"The events broke off ({type(error).__name__}).") from None


def _within(request: Request, left: float) -> Request:
    if left >= request.timeout_seconds:
        return request
    return Request(
        method=request.method,
        url=request.url,
        headers=request.headers,
        body=request.body,
        timeout_seconds=left,
        max_answer_bytes=request.max_answer_bytes,
    )


def _director(*, use_proxies: bool) -> urllib.request.OpenerDirector:
    """As `notifiers._urllib.opener`, for an answer that is read while it comes."""
    director = urllib.request.OpenerDirector()
    director.add_handler(urllib.request.ProxyHandler() if use_proxies else urllib.request.ProxyHandler({}))
    director.add_handler(urllib.request.HTTPHandler())
    director.add_handler(urllib.request.HTTPSHandler())
    return director


def _read_events(answer: http.client.HTTPResponse) -> Iterator[Event]:
    """https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation"""
    fields: dict[str, str] = {}
    while line := answer.readline(MOST_EVENT_BYTES + 1):
        if len(line) > MOST_EVENT_BYTES or sum(map(len, fields.values())) > MOST_EVENT_BYTES:
            raise ValueError("an event without an end")
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if not text:
            if "data" in fields:
                yield Event(id=fields.get("id", ""), name=fields.get("event", "message"), data=fields["data"])
            fields = {}
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name in ("", "retry"):
            yield Event()
        elif name == "data" and "data" in fields:
            fields["data"] += "\n" + value
        else:
            fields[name] = value


def as_object(response: Response) -> dict[str, object]:
    """The answer's JSON object; an empty one for anything else."""
    value = response.json()
    return value if isinstance(value, dict) else {}


def as_body(value: object) -> bytes:
    """JSON, in UTF-8, the same bytes for the same value."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
