"""What a notifier and its driver say to each other: requests, responses, what was done, and why it could not be.

Also decides, without a clock of its own, when a request is worth another try.
"""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

KILOBYTE = 1024
# What a platform answers to a message is small; who sends more is not the platform.
SMALL_ANSWER_BYTES = 64 * KILOBYTE
# A page of 100 comments of 65,536 characters, each up to 4 bytes.
LIST_ANSWER_BYTES = 26 * KILOBYTE * KILOBYTE
USER_AGENT = "prpm-testing"
# GitHub asks for a minute where it names no time: https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api
RATE_LIMIT_WITHOUT_HINT_SECONDS = 60.0
LONGEST_HINT_SECONDS = 24 * 3600.0


class CannotNotify(Exception):
    """A message could not be told. The message says what to do and carries nothing that the other side sent.

    `retryable`: later it may work. `gone`: the target does not exist any more and must not be called again.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        gone: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.gone = gone
        self.status = status

    @property
    def is_unclear(self) -> bool:
        """Whether what was asked may have happened all the same."""
        return self.status is not None and self.status >= 500


class NoResponse(CannotNotify):
    """No answer came: no connection, a time-out, or one that is too large. What was asked may still have happened."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)

    @property
    def is_unclear(self) -> bool:
        return True


class TooLargeAnswer(NoResponse):
    """It answered, and with more than is read."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One HTTP request. `repeatable`: sending it twice leaves what sending it once does, or the second is worth it.

    Its repr shows neither path nor headers, as both may hold a secret.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    timeout_seconds: float = 10.0  # in all, from connecting to the last byte
    max_answer_bytes: int = SMALL_ANSWER_BYTES

    @property
    def origin(self) -> str:
        """`scheme://host:port` as written: what may be shown of the address."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@dataclass(frozen=True, kw_only=True)
class Response:
    """One HTTP response; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; None if it is none. Callers look at the form themselves: it is another's text."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """What a notifier did, in words that follow "we"; empty with a `reason` if there was nothing to tell.

    `message_id` and `url` name what can be seen now, where the platform says so: keep the id to edit it later.
    """

    did: tuple[str, ...] = ()
    reason: str = ""
    message_id: str | None = None
    url: str | None = None

    @classmethod
    def quiet(cls, reason: str) -> Receipt:
        """Nothing was sent, on purpose."""
        return cls(reason=reason)


Messages = Generator[Request, Response, Receipt]


def json_request(
    method: str, url: str, value: object, *, headers: Mapping[str, str] | None = None, repeatable: bool = True
) -> Request:
    """A request whose body is `value` in JSON, in UTF-8."""
    return Request(
        method=method,
        url=url,
        headers={"User-Agent": USER_AGENT, "Content-Type": "application/json", **(headers or {})},
        body=json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
        repeatable=repeatable,
    )


def require_success(response: Response, *, doing: str) -> Response:
    """The response, if it is a 2xx; else raises CannotNotify. `doing` follows "could not"."""
    status = response.status
    if response.is_success:
        return response
    if is_rate_limited(response):
        raise CannotNotify(
            f"We could not {doing}: too many requests. It is tried again later.",
            retryable=True,
            retry_after_seconds=retry_hint_seconds(response),
            status=status,
        )
    if status >= 500 or status == 408:
        raise CannotNotify(
            f"We could not {doing}: the other side has a problem (HTTP {status}). It is tried again later.",
            retryable=True,
            retry_after_seconds=_header_seconds(response),
            status=status,
        )
    if 300 <= status < 400:
        raise CannotNotify(
            f"We could not {doing}: the address leads elsewhere (HTTP {status}), and redirects are not followed. "
            "Give the address that it leads to.",
            status=status,
        )
    raise CannotNotify(
        f"We could not {doing} (HTTP {status}). {_REFUSALS.get(status, _UNEXPECTED)}",
        gone=status in (404, 410),
        status=status,
    )


_UNEXPECTED = "Please report this: the request was refused."
_REFUSALS = {
    401: "The token or address is not accepted; make a new one.",
    403: "The token may not do this; give it the right, or leave this kind of message out.",
    404: "What the address names does not exist, or the token may not see it.",
    410: "What the address names was removed.",
}


def is_rate_limited(response: Response) -> bool:
    """Whether the request was refused for now only. GitHub answers 403 for its secondary limits, too."""
    if response.status == 429:
        return True
    return response.status == 403 and (
        "retry-after" in response.headers
        or response.headers.get("x-ratelimit-remaining") == "0"
        or b"secondary rate limit" in response.body
    )


def retry_hint_seconds(response: Response) -> float:
    """How long to wait, by what the response says; a minute if it says nothing that can be used."""
    said = (_header_seconds(response), _body_seconds(response), _reset_seconds(response))
    return next((seconds for seconds in said if seconds is not None), RATE_LIMIT_WITHOUT_HINT_SECONDS)


def _header_seconds(response: Response) -> float | None:
    """Retry-After, in seconds or as a date that is compared with the response's own."""
    value = response.headers.get("retry-after", "")
    return _bounded(value) if not value.endswith("GMT") else _seconds_between(response.headers.get("date"), value)


def _body_seconds(response: Response) -> float | None:
    """Discord's `retry_after`, more exact than its header."""
    body = response.json()
    return _bounded(body.get("retry_after")) if isinstance(body, dict) else None


def _reset_seconds(response: Response) -> float | None:
    """GitHub's `x-ratelimit-reset`, in seconds since 1970, against the response's own clock."""
    reset, now = _number(response.headers.get("x-ratelimit-reset")), _epoch(response.headers.get("date"))
    return _bounded(reset - now) if reset is not None and now is not None else None


def _seconds_between(earlier: str | None, later: str | None) -> float | None:
    start, end = _epoch(earlier), _epoch(later)
    return _bounded(end - start) if start is not None and end is not None else None


def _epoch(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() if date else None
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(value: object) -> float | None:
    number = _number(value)
    return min(max(number, 0.0), LONGEST_HINT_SECONDS) if number is not None else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a driver keeps trying by itself, before whoever called it has to."""

    tries: int = 4
    pauses_seconds: float = 60.0  # all pauses together


def pause_before_retry(
    request: Request, response: Response | None, *, tries: int, paused_seconds: float, patience: Patience
) -> float | None:
    """Seconds to wait before the request is sent again; None if the notifier has to decide.

    `response` is None if none came. A refusal for now (429) did nothing, so even a request that must not be sent twice
    is sent again; after anything unclear only a repeatable one is.
    """
    if tries >= patience.tries:
        return None
    pause = _wanted_pause(request, response, tries=tries)
    return pause if pause is not None and paused_seconds + pause <= patience.pauses_seconds else None


def _wanted_pause(request: Request, response: Response | None, *, tries: int) -> float | None:
    growing = float(2 ** (tries - 1)) / 2
    if response is None:
        return growing if request.repeatable else None
    if is_rate_limited(response):
        return retry_hint_seconds(response)
    if response.status >= 500 and request.repeatable:
        said = _header_seconds(response)
        return said if said is not None else growing
    return None
