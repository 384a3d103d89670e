"""HTTP statuses and Retry-After headers of providers, in our own words."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evals.models._refusals import refusal, retry_after_seconds

NOW = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("0.25", 0.25),
        ("-3", 0.0),
        ("soon", None),
        ("nan", None),
        ("1e999", None),
        ("Sun, 22 Nov 2026 12:00:30 GMT", 30.0),
        ("Sun, 22 Nov 2026 13:00:30 +0100", 30.0),
        ("Sun, 22 Nov 2026 12:00:30 -0000", 30.0),
        ("Sun, 22 Nov 2026 11:00:00 GMT", 0.0),
        ("Sun, 99 Nov 2026 11:00:00 GMT", None),
    ],
)
def test_retry_after__is_read_as_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, now=NOW) == seconds


@pytest.mark.parametrize(
    ("status", "retryable", "sentence"),
    [
        (200, True, "d answered something that is no chat completion; check its base_url."),
        (302, False, "d points to another address (HTTP 302), which is never followed; check its base_url."),
        (401, False, "d refused our key (HTTP 401); check the key of this deployment."),
        (429, True, "d limits our requests (HTTP 429); try again later or ask for a higher limit."),
        (418, False, "d answered HTTP 418."),
        (529, True, "d answered HTTP 529."),
    ],
)
def test_refusal__says_what_to_do_and_whether_to_try_again(status: int, retryable: bool, sentence: str) -> None:
    error = refusal("d", status, retry_after=None, now=NOW)

    assert (error.message, error.retryable, error.status) == (sentence, retryable, status)
