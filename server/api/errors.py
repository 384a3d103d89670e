"""The one table that says which refusal is which HTTP status, and the shape of every error body."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import asyncpg
import structlog
from litestar import MediaType, Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import UNSET, Meta, Struct, UnsetType

from server.domain.errors import (
    Conflict,
    InvalidRequest,
    NoSuite,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    QuotaExceeded,
    ServiceError,
    TooLarge,
    TooMany,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)

log = structlog.get_logger()

STATUS: dict[type[ServiceError], int] = {
    InvalidRequest: 400,
    NotAuthenticated: 401,
    QuotaExceeded: 402,
    NotAllowed: 403,
    NotFound: 404,
    TooSlow: 408,
    Conflict: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    NoSuite: 422,
    TooMany: 429,
    Unavailable: 503,
}

RETRY_AFTER_SECONDS = "2"

# PostgreSQL is not there, is starting, or is going: the client may try again.
DATABASE_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the server went in the middle of an answer
    asyncpg.QueryCanceledError,
    asyncpg.LockNotAvailableError,  # somebody holds it for longer than anybody should
    ConnectionError,
    FileNotFoundError,  # a unix socket that is gone
    TimeoutError,
)


class ErrorBody(Struct, kw_only=True):
    """What every refusal says. `error` is a sentence that says what to do; `code` is for programs."""

    error: Annotated[str, Meta(examples=["There is no such job, or it is not yours."])]
    code: Annotated[str, Meta(examples=["job_not_found"])]
    details: list[str] | UnsetType = UNSET
    resets_at: str | UnsetType = UNSET


DESCRIPTIONS = {
    400: "The request cannot be used; `details` name the fields.",
    401: "No token, or one that is not valid.",
    402: "The month's runs or money are used up; `resets_at` says when the next month starts.",
    403: "Free tier, or no right to do this.",
    404: "Not there, or not yours.",
    409: "In conflict with what is there.",
    413: "More bytes than are read.",
    415: "Not the content type that is read here.",
    422: "The package has no tests; says where they may live.",
    429: "Too much at once; see Retry-After.",
    503: "Briefly unavailable; see Retry-After.",
}


def refusals(*statuses: int, described: Mapping[int, str] | None = None) -> dict[int, ResponseSpec]:
    """How a route's refusals look in the API's description; `described` where the usual words do not fit."""
    words = DESCRIPTIONS | dict(described or {})
    return {
        status: ResponseSpec(ErrorBody, description=words[status], generate_examples=False)
        for status in (*statuses, *(described or {}), 503)
    }


def error_response(status: int, body: ErrorBody, *, headers: dict[str, str] | None = None) -> Response[ErrorBody]:
    """The answer for a refusal."""
    return Response(body, status_code=status, headers=headers or {}, media_type=MediaType.JSON)


def service_error(_: Request[Any, Any, Any] | None, error: ServiceError) -> Response[ErrorBody]:
    """A refusal of ours, by the table."""
    status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
    body = ErrorBody(
        error=error.message,
        code=error.error_code,
        details=list(error.details) or UNSET,
        resets_at=error.more.get("resets_at", UNSET),
    )
    headers = _headers(status)
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    return error_response(status, body, headers=headers)


def validation_error(_: Request[Any, Any, Any], error: ValidationException) -> Response[ErrorBody]:
    """What the framework found in the path, the query or the body."""
    extra = error.extra if isinstance(error.extra, list) else []
    details = [f"{finding.get('key', 'body')}: {finding.get('message', '')}" for finding in extra]
    first = f" ({details[0]})" if details else ""
    return error_response(
        400,
        ErrorBody(error=f"The request cannot be used{first}.", code="invalid_request", details=details or UNSET),
    )


CODES = {
    400: "invalid_request",
    401: "unauthorized",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
}
SENTENCES = {
    404: "There is nothing at this address. The API is described at /docs.",
    405: "This address does not take this method. The API is described at /docs.",
    413: "The body is larger than this address reads.",
}


def http_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[ErrorBody]:
    """Any other refusal of the framework's."""
    status = error.status_code
    sentence = SENTENCES.get(status) or (error.detail if status < 500 else "Something went wrong on our side.")
    return error_response(
        status, ErrorBody(error=sentence, code=CODES.get(status, "error")), headers=dict(error.headers or {})
    )


def database_away(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """503 while PostgreSQL cannot be used; nothing was kept."""
    log.warning("database away", reason=type(error).__name__)
    body = ErrorBody(error="The service is briefly unavailable. Try again in a few seconds.", code="unavailable")
    return error_response(503, body, headers=_headers(503))


def bad_data(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """A value that PostgreSQL cannot hold."""
    log.warning("value refused by the database", reason=type(error).__name__)
    return error_response(
        400, ErrorBody(error="The request holds a value that cannot be stored.", code="invalid_request")
    )


def unexpected(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """A fault of ours: logged whole, told in a sentence."""
    log.error("request failed", reason=type(error).__name__, exc_info=error)
    return error_response(500, ErrorBody(error="Something went wrong on our side.", code="internal_error"))


def _headers(status: int) -> dict[str, str]:
    if status in (429, 503):
        return {"Retry-After": RETRY_AFTER_SECONDS}
    if status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {}


EXCEPTION_HANDLERS: dict[Any, Any] = {
    ServiceError: service_error,
    ValidationException: validation_error,
    HTTPException: http_error,
    asyncpg.DataError: bad_data,
    asyncpg.CharacterNotInRepertoireError: bad_data,
    **dict.fromkeys(DATABASE_AWAY, database_away),
    Exception: unexpected,
}
