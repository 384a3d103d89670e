"""One request and its answer, in the words of forges: what goes wrong is a CannotRead."""

from __future__ import annotations

from notifiers import NoResponse, Request, Response
from notifiers._http import CannotNotify, TooLargeAnswer, require_success
from server.forges import Asking, CannotRead


def ask(request: Request, *, doing: str, or_missing: bool = False) -> Asking[Response]:
    """The answer, a 2xx, or with `or_missing` a 404 as well. `doing` follows "could not". Raises CannotRead."""
    try:
        response = yield request
        if or_missing and response.status == 404:
            return response
        return require_success(response, doing=doing)
    except CannotNotify as error:
        raise CannotRead(
            error.message,
            retryable=error.retryable,
            seconds=error.retry_after_seconds,
            status=error.status,
            is_silence=isinstance(error, NoResponse) and not isinstance(error, TooLargeAnswer),
        ) from None
