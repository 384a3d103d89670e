"""When a request is worth another try, and after how long."""

from __future__ import annotations

import pytest

from notifiers import Request, Response
from notifiers._http import Patience, pause_before_retry, retry_hint_seconds

GET = Request(method="GET", url="https://api.example/x")
POST = Request(method="POST", url="https://api.example/x", repeatable=False)
DATE = {"date": "Sun, 22 Nov 2026 12:00:00 GMT"}


def pause(request: Request, response: Response | None, *, tries: int = 1, paused_seconds: float = 0.0) -> float | None:
    patience = Patience(tries=4, pauses_seconds=60.0)
    return pause_before_retry(request, response, tries=tries, paused_seconds=paused_seconds, patience=patience)


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after": "0.5"}, b"", 0.5),
        ({}, b'{"retry_after": 0.25, "global": false}', 0.25),
        ({**DATE, "retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, b"", 30.0),
        ({**DATE, "x-ratelimit-reset": "1795348845"}, b"", 45.0),
        ({"x-ratelimit-reset": "1795348845"}, b"", 60.0),
        ({}, b"", 60.0),
        ({"retry-after": "soon"}, b"[]", 60.0),
        ({"retry-after": "-5"}, b"", 0.0),
        ({"retry-after": "nan"}, b"", 60.0),
        ({"retry-after": "1e300"}, b"", 86_400.0),
        ({}, b'{"retry_after": "x"}', 60.0),
        ({**DATE, "retry-after": "Sun, 99 Nov 2026 12:00:30 GMT"}, b"", 60.0),
    ],
)
def test_hint__is_read_in_every_form(headers: dict[str, str], body: bytes, seconds: float) -> None:
    assert retry_hint_seconds(Response(status=429, headers=headers, body=body)) == seconds


@pytest.mark.parametrize(
    ("response", "get", "post"),
    [
        (None, 0.5, None),
        (Response(status=429, headers={"retry-after": "3"}), 3.0, 3.0),
        (Response(status=403, headers={"retry-after": "3"}), 3.0, 3.0),
        (Response(status=403, body=b"You have exceeded a secondary rate limit."), 60.0, 60.0),
        (Response(status=403, headers={"x-ratelimit-remaining": "0"}), 60.0, 60.0),
        (Response(status=403), None, None),
        (Response(status=502), 0.5, None),
        (Response(status=503, headers={"retry-after": "2"}), 2.0, None),
        (Response(status=404), None, None),
        (Response(status=301), None, None),
        (Response(status=200), None, None),
        (Response(status=429, headers={"retry-after": "61"}), None, None),
    ],
)
def test_pause__unclear_requests_are_repeated_only_if_that_does_no_harm(
    response: Response | None, get: float | None, post: float | None
) -> None:
    assert (pause(GET, response), pause(POST, response)) == (get, post)


def test_pause__grows_and_ends() -> None:
    trouble = Response(status=502)

    assert [pause(GET, trouble, tries=tries) for tries in (1, 2, 3, 4)] == [0.5, 1.0, 2.0, None]
    assert pause(GET, Response(status=429, headers={"retry-after": "40"}), paused_seconds=30.0) is None
