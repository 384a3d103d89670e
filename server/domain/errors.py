"""What the service refuses, without a word of HTTP; server/api/errors.py holds the table of codes.

ServiceError
├── InvalidRequest         what was sent cannot be used
├── NotAuthenticated       no token, or one that is not good
├── NotAllowed             known, but without the right or the tier
├── NotFound               does not exist, or is not to be seen
├── QuotaExceeded          the month's runs are used up
│   └── MoneyExceeded      the month's money is
├── Conflict               an idempotency key or a version is taken; a job is not finished
├── TooLarge               more bytes than are read
├── TooSlow                bytes that did not come in time
├── UnsupportedMedia       not the content type that the route reads
├── NoSuite                nothing says how to test the package
├── TooMany                more at once than one caller may have
└── Unavailable            a part that we need is away; try again
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class ServiceError(Exception):
    """`message` says what to do; `code` is for programs; `details` are lines of `path: what`."""

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        details: Sequence[str] = (),
        retry_after_seconds: int | None = None,
        **more: str,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = code or self.code
        self.details = tuple(details)
        self.retry_after_seconds = retry_after_seconds  # None: a moment
        self.more = more  # further public fields, such as resets_at


class InvalidRequest(ServiceError):
    code = "invalid_request"


class NotAuthenticated(ServiceError):
    code = "unauthorized"


class NotAllowed(ServiceError):
    code = "forbidden"


class NotFound(ServiceError):
    code = "not_found"


class QuotaExceeded(ServiceError):
    code = "quota_exceeded"


class MoneyExceeded(QuotaExceeded):
    code = "money_exceeded"


class Conflict(ServiceError):
    code = "conflict"


class TooLarge(ServiceError):
    code = "too_large"


class TooSlow(ServiceError):
    code = "too_slow"


class UnsupportedMedia(ServiceError):
    code = "unsupported_media_type"


class NoSuite(ServiceError):
    code = "no_suite"


class TooMany(ServiceError):
    code = "too_many"


class Unavailable(ServiceError):
    code = "unavailable"
