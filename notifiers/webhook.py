"""`webhook`: the outcome as JSON to any address, signed by the Standard Webhooks rule (standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Generator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from notifiers import (
    Announcement,
    Messages,
    Mode,
    Notice,
    Receipt,
    Request,
    Response,
    TargetUrl,
    notifier,
    require_success,
)
from notifiers._findings import Findings, sort_rows
from notifiers._http import USER_AGENT
from notifiers._outcome import Row
from notifiers._text import cut, one_line, utf8_bytes
from notifiers._urls import linkable

# Receivers commonly take 20 kB; who needs all rows reads them by the address in `url`.
LARGEST_BODY_BYTES = 18_000
TEXT_CHARS = 200
ANNOUNCED_CHARS = 1000
EVENT = "test_job.completed"


@dataclass(frozen=True, kw_only=True)
class WebhookTarget:
    """An address, and the secret that signs: `whsec_` and base64 of 24 to 64 bytes. Without one nothing is signed.

    Every finished job is told by default: a program decides for itself what is news.
    """

    url: str = field(repr=False)
    secret: str = field(default="", repr=False)
    when: Mode = "always"

    def __post_init__(self) -> None:
        if self.secret:
            _key(self.secret)


def target_from_url(url: TargetUrl) -> WebhookTarget:
    """The target of this address, not signed."""
    return WebhookTarget(url=url.text)


EXAMPLE = WebhookTarget(url="https://receiver.example/prpm")


def say(announcement: Announcement, target: WebhookTarget) -> Messages:
    """Any address: the announcement as signed JSON."""
    text = cut(one_line(announcement.text), ANNOUNCED_CHARS)
    data = {"title": announcement.title, "text": text, "url": announcement.link}
    body = _encode(announcement.event, announcement.at, data)
    yield from _call(target, announcement.event_id, announcement.told_at or announcement.at, body)
    return Receipt(did=("called the webhook",))


@notifier("webhook", example=EXAMPLE, from_url=target_from_url, say=say)
def tell(notice: Notice, target: WebhookTarget) -> Messages:
    """Any address: the outcome as signed JSON."""
    if not notice.is_news(target.when):
        return Receipt.quiet("nothing that the target asked for")
    # The same job has the same id however often it is sent, so that a receiver can drop the second.
    yield from _call(target, notice.job_id, notice.told_at or notice.finished_at, payload(notice))
    return Receipt(did=("called the webhook",))


def _call(target: WebhookTarget, event_id: str, at: datetime, body: bytes) -> Generator[Request, Response, None]:
    message_id = f"msg_{one_line(event_id)[:100]}"
    # Receivers refuse what was signed more than some minutes ago.
    timestamp = str(int(at.timestamp()))
    headers = {
        "User-Agent": USER_AGENT,
        "Content-Type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
    }
    if target.secret:
        headers["webhook-signature"] = signature(target.secret, message_id, timestamp, body)
    response = yield Request(method="POST", url=target.url, headers=headers, body=body)
    require_success(response, doing="call the webhook")


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """`v1,` and base64 of the HMAC-SHA256 over id, timestamp and body, joined by dots."""
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    return "v1," + base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith("whsec_") or not 24 <= len(key) <= 64:
        raise ValueError("a webhook's secret is `whsec_` and base64 of 24 to 64 bytes")
    return key


def payload(notice: Notice) -> bytes:
    """The body: job, sums and the rows that matter, most important first, as many as fit. No prompt, no answer."""
    findings = sort_rows(notice.outcome)
    data = _data(notice)
    rows: list[dict[str, Any]] = []
    room = LARGEST_BODY_BYTES - len(_encode(EVENT, notice.finished_at, data))
    for finding, row in _important(findings):
        entry = _row(finding, row)
        room -= utf8_bytes(json.dumps(entry)) + 1
        if room < 0:
            break
        rows.append(entry)
    data["rows"] = rows
    data["rows_left_out"] = sum(1 for _ in _important(findings)) - len(rows)
    return _encode(EVENT, notice.finished_at, data)


def _encode(event: str, at: datetime, data: dict[str, Any]) -> bytes:
    when = at.astimezone(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({"type": event, "timestamp": when, "data": data}, separators=(",", ":")).encode()


def _data(notice: Notice) -> dict[str, Any]:
    summary = notice.outcome.summary
    return {
        "job_id": notice.job_id,
        "url": linkable(notice.url),
        "package": cut(one_line(notice.package), TEXT_CHARS),
        "suite": cut(one_line(notice.suite), TEXT_CHARS),
        "ref": cut(one_line(notice.ref), TEXT_CHARS),
        "head_sha": notice.head_sha,
        "conclusion": notice.conclusion,
        **({"error_code": notice.error_code} if notice.error_code else {}),
        "previous_conclusion": notice.previous,
        "overall_score": summary.overall_score,
        "total_tests": summary.total_tests,
        "tests_passed": summary.tests_passed,
        "tests_failed": summary.tests_failed,
        "tests_errored": summary.tests_errored,
        "tests_skipped": summary.tests_skipped,
        "total_duration_ms": summary.total_duration_ms,
        "total_cost_usd": summary.total_cost_usd,
        "rows": [],
        "rows_left_out": 0,
    }


def _important(findings: Findings) -> list[tuple[str, Row]]:
    named = (
        ("regressed", findings.regressed),
        ("failed", findings.failed),
        ("error", findings.errored),
        ("skipped", findings.skipped),
        ("fixed", findings.fixed),
        ("flaky", findings.flaky),
    )
    return [(name, row) for name, rows in named for row in rows]


def _row(finding: str, row: Row) -> dict[str, Any]:
    p_value = row.change.p_value if row.change else None
    return {
        "finding": finding,
        "title": cut(one_line(row.title), TEXT_CHARS),
        "model": cut(one_line(row.model), TEXT_CHARS),
        "score": row.score,
        **({"p_value": p_value} if p_value is not None else {}),
    }
