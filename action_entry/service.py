"""The service's API, as far as the Action needs it: from the archive to the reports."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

from action_entry.errors import Misused, NotNow
from action_entry.wire import Event, Wire, as_body, as_object
from notifiers import Response
from notifiers._text import one_line

LARGEST_RESULTS_BYTES = 64 * 1024 * 1024
CANCEL_SECONDS = 3.0
MESSAGE_CHARS = 500
MOST_DETAILS = 20
# 402: quota or money is used up. 403 is judged by its code. 408 and 5xx: an outage.
_NOT_NOW = frozenset({402, 408, 425, 429})
_TIER_CODES = frozenset({"free_tier", "tier_too_low", "upgrade_required", "quota_exceeded", "subscription_required"})
ENDED = ("completed", "failed")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A package as the service keeps it."""

    id: str
    package: str
    suite_path: str = ""


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """An accepted job. `warnings` are sentences of the service, such as a quota that is nearly used up."""

    job_id: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as it stands. `marker` and `reporter` say who writes the comment, and under which mark."""

    id: str
    status: str
    package: str = ""
    created_at: str = ""
    completed_at: str = ""
    error: str = ""
    code: str = ""
    cached: bool = False
    models: tuple[str, ...] = ()
    marker: str = field(default="", repr=False)
    reporter: str = "action"
    previous: str = ""

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


class Service:
    """One server with one identity. `renew` gets a fresh token when a short one has ended; None if there is none.

    Every method raises NotNow for outages and used-up quotas, Misused for what the workflow has to change.
    """

    def __init__(self, wire: Wire, *, renew: Callable[[], str] | None = None) -> None:
        self._wire = wire
        self._renew = renew

    @property
    def base_url(self) -> str:
        return self._wire.base_url

    def keep_snapshot(self, archive: bytes, *, package: str = "", account: str = "") -> Snapshot:
        """The archive is stored by its content; sending it again changes nothing.

        `package`: which one of it, where it holds several. `account`: whose it is, if not the token's own.
        """
        query = urlencode({name: value for name, value in (("package", package), ("account", account)) if value})
        path = "/api/v1/package-snapshots" + (f"?{query}" if query else "")
        answer = self._call("POST", path, body=archive, headers={"Content-Type": "application/gzip"})
        name = _object(answer, "package").get("name")
        return Snapshot(
            id=_text(answer, "snapshot_id", required=True),
            package=str(name or ""),
            suite_path=_text(answer, "suite_path"),
        )

    def submit(self, request: Mapping[str, Any], *, key: str) -> Submitted:
        """The job is accepted once, however often this is sent: the key names the run, and the body is part of it."""
        body = as_body(request)
        whole_key = f"{key}-{hashlib.sha256(body).hexdigest()[:16]}"
        headers = {"Content-Type": "application/json", "Idempotency-Key": whole_key}
        answer = self._call("POST", "/api/v1/test-jobs/run", body=body, headers=headers)
        warnings = answer.get("warnings")
        return Submitted(
            job_id=_text(answer, "job_id", required=True),
            warnings=tuple(_sentences(warnings))[:MOST_DETAILS],
        )

    def look(self, job_id: str, *, wait_seconds: int = 0) -> Job:
        """The job now, or as soon as it has ended, or after the wait."""
        query = f"?wait={wait_seconds}" if wait_seconds else ""
        answer = self._call("GET", f"{_job(job_id)}{query}", timeout_seconds=wait_seconds + 15.0)
        return read_job(answer)

    @contextmanager
    def events(self, job_id: str, *, after: str, silence_seconds: float) -> Iterator[Iterator[Event]]:
        """The job's events. Raises NoResponse where there are none."""
        with self._wire.events(f"{_job(job_id)}/events", after=after, silence_seconds=silence_seconds) as found:
            yield found

    def results(self, job_id: str) -> bytes:
        """The outcome's JSON."""
        return self._raw("GET", f"{_job(job_id)}/results", max_answer_bytes=LARGEST_RESULTS_BYTES).body

    def report(self, job_id: str, *, ending: str) -> bytes | None:
        """A report in this format; None where the service has none."""
        try:
            return self._raw("GET", f"{_job(job_id)}/report.{ending}", max_answer_bytes=LARGEST_RESULTS_BYTES).body
        except (Misused, NotNow):
            return None

    def is_shared(self, job_id: str, *, timeout_seconds: float) -> bool:
        """Whether the App waits for this job as well, so that it is not ours alone to end. False if that is unclear."""
        try:
            response = self._wire.call("GET", _job(job_id), timeout_seconds=timeout_seconds, tries=1)
            return response.is_success and read_job(as_object(response)).reporter != "action"
        except NotNow:
            return False

    def cancel(self, job_id: str) -> bool:
        """Whether the job's end was asked for, in three seconds at most."""
        try:
            response = self._wire.call("POST", f"{_job(job_id)}/cancel", timeout_seconds=CANCEL_SECONDS, tries=1)
        except NotNow:
            return False
        return response.is_success or response.status == 409

    def _call(self, method: str, path: str, **options: Any) -> dict[str, object]:
        response = self._raw(method, path, **options)
        answer = as_object(response)
        if not answer:
            raise NotNow(f"{self.base_url} answered with something that is not the testing service's JSON.")
        return answer

    def _raw(self, method: str, path: str, **options: Any) -> Response:
        response = self._wire.call(method, path, **options)
        if response.status == 401 and self._renew is not None:
            self._wire.token = self._renew()
            response = self._wire.call(method, path, **options)
        if response.is_success:
            return response
        raise refusal(response, base_url=self.base_url)


def refusal(response: Response, *, base_url: str) -> Misused | NotNow:
    """What an answer that is no success means for the workflow."""
    said = as_object(response)
    message = one_line(str(said.get("error") or ""))[:MESSAGE_CHARS]
    code = str(said.get("code") or "")[:60]
    details = tuple(_sentences(said.get("details")))[:MOST_DETAILS]
    if 300 <= response.status < 400:
        return Misused(f"{base_url} leads elsewhere, and redirects are not followed. Set server-url to that address.")
    if not message:
        message = f"{base_url} answered with HTTP {response.status} and no reason."
        if "json" not in response.headers.get("content-type", ""):
            message += " It may not be the testing service: check server-url."
    is_tier = response.status == 403 and (code in _TIER_CODES or "tier" in code)
    if response.status in _NOT_NOW or response.status >= 500 or is_tier:
        return NotNow(message, code=code, details=details)
    return Misused(message, details=details)


def read_job(answer: Mapping[str, object]) -> Job:
    """A job's answer or last event. Raises NotNow for what is none."""
    package, config, report = (_object(answer, name) for name in ("package", "config", "report"))
    models = config.get("models")
    return Job(
        id=_text(answer, "id", required=True),
        status=_text(answer, "status", required=True),
        package=_text(package, "name"),
        created_at=_text(answer, "created_at"),
        completed_at=_text(answer, "completed_at"),
        error=one_line(_text(answer, "error"))[:MESSAGE_CHARS],
        code=_text(answer, "code"),
        cached=answer.get("cached") is True,
        models=tuple(str(model) for model in models) if isinstance(models, list) else (),
        marker=_text(report, "marker"),
        reporter=_text(report, "reporter") or "action",
        previous=_text(report, "previous"),
    )


def _job(job_id: str) -> str:
    return f"/api/v1/test-jobs/{quote(job_id, safe='')}"


def _object(answer: Mapping[str, object], name: str) -> Mapping[str, object]:
    value = answer.get(name)
    return value if isinstance(value, dict) else {}


def _text(answer: Mapping[str, object], name: str, *, required: bool = False) -> str:
    value = answer.get(name)
    if isinstance(value, str) and value:
        return value
    if required:
        raise NotNow(f"The service's answer holds no {name}. It may be another program: check server-url.")
    return ""


def _sentences(value: object) -> Iterator[str]:
    """Texts of a list; entries that are objects are told by their message."""
    for item in value if isinstance(value, list) else []:
        said = item.get("message") if isinstance(item, dict) else item
        if isinstance(said, str) and said:
            yield one_line(said)[:MESSAGE_CHARS]
