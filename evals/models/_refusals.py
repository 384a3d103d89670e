"""What an HTTP status of a provider means to us, in our own words: shared by the backends that speak HTTP."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from evals.errors import ProviderError

_SENTENCES = {
    400: "refused the request (HTTP 400); the prompt may be longer than its context",
    401: "refused our key (HTTP 401); check the key of this deployment",
    402: "wants to be paid first (HTTP 402); check the balance of its account",
    403: "does not allow this request (HTTP 403); check what its key may do",
    404: "does not know the model (HTTP 404); check its id and address",
    408: "took too long (HTTP 408)",
    413: "refused the request as too large (HTTP 413)",
    429: "limits our requests (HTTP 429); try again later or ask for a higher limit",
}
_WORTH_ANOTHER_TRY = {408, 409, 425, 429}


def refusal(deployment_id: str, status: int, *, retry_after: str | None, now: datetime) -> ProviderError:
    """The error for an answer that is of no use. `retry_after` is the header as it came; `now` has a zone."""
    if status < 300:
        said = "answered something that is no chat completion; check its base_url"
    elif status < 400:
        said = f"points to another address (HTTP {status}), which is never followed; check its base_url"
    else:
        said = _SENTENCES.get(status, f"answered HTTP {status}")
    return ProviderError(
        f"{deployment_id} {said}.",
        retryable=status < 300 or status >= 500 or status in _WORTH_ANOTHER_TRY,
        status=status,
        retry_after_seconds=retry_after_seconds(retry_after, now=now),
        timed_out=status == 408,
    )


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Seconds from now, at least 0, of a Retry-After header; None if there is none that can be read.

    https://www.rfc-editor.org/rfc/rfc9110#name-retry-after allows seconds and an HTTP date.
    """
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _seconds_until(value, now)
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _seconds_until(value: str, now: datetime) -> float:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, IndexError, OverflowError):
        return math.nan
    # "-0000" gives a date without a zone; HTTP dates are always UTC.
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - now).total_seconds()
