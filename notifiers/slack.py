"""`slack`: a message in a channel, by an incoming webhook."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from notifiers import (
    Announcement,
    CannotNotify,
    Messages,
    Mode,
    Notice,
    Receipt,
    Response,
    TargetUrl,
    notifier,
    require_success,
)
from notifiers._chat import ROWS_SHOWN, facts, others, row_details, row_name
from notifiers._findings import Findings, sort_rows
from notifiers._http import json_request
from notifiers._outcome import Row
from notifiers._report import title_line
from notifiers._text import NOTHING, cut, one_line, utf16_units
from notifiers._urls import linkable

HOSTS = frozenset({"hooks.slack.com", "hooks.slack-gov.com"})
PATH = re.compile(r"/services/T[A-Za-z0-9]{1,30}/B[A-Za-z0-9]{1,30}/[A-Za-z0-9]{8,80}")
FORM = "https://hooks.slack.com/services/T…/B…/…"

HEADER_CHARS = 150
SECTION_CHARS = 3_000
TEXT_CHARS = 4_000
# All blocks together: about 13,000 characters were seen to be refused (msg_blocks_too_long).
# 1 header, 1 + ROWS_SHOWN + 1 sections of these sizes and a context stay below 8,000.
ROW_CHARS = 1_000
SMALL_CHARS = 600

# Words of Slack that are its own and say more than the status: https://api.slack.com/changelog/2016-05-17-changes-to-errors-for-incoming-webhooks
_GONE = frozenset({b"no_service", b"no_team", b"channel_is_archived", b"channel_not_found"})


@dataclass(frozen=True, kw_only=True)
class SlackTarget:
    """An incoming webhook's address, which is its secret, and when to speak. A message cannot be edited later."""

    url: str = field(repr=False)
    when: Mode = "changes"


def target_from_url(url: TargetUrl) -> SlackTarget:
    """The target of this address. Raises InvalidTarget for any other host or path."""
    return SlackTarget(url=url.require(hosts=HOSTS, path=PATH, example=FORM).base)


EXAMPLE = SlackTarget(url="https://hooks.slack.com/services/T00000000/B00000000/none", when="always")


def say(announcement: Announcement, target: SlackTarget) -> Messages:
    """Slack: one sentence in the channel."""
    blocks = [_header(announcement.headline)]
    if text := _fit(announcement.text, SMALL_CHARS):
        blocks.append(_section(text))
    address = announcement.link.replace("&", "&amp;")
    if address and "|" not in address:
        blocks.append({"type": "context", "elements": [_mrkdwn(f"<{address}|more>")]})
    fallback = _fit(announcement.headline, TEXT_CHARS)
    body = {"text": fallback, "blocks": blocks, "unfurl_links": False, "unfurl_media": False}
    _require_ok((yield json_request("POST", target.url, body)))
    return Receipt(did=("posted a message",))


@notifier("slack", example=EXAMPLE, from_url=target_from_url, say=say)
def tell(notice: Notice, target: SlackTarget) -> Messages:
    """Slack: a message in a channel when the state changes."""
    if not notice.is_news(target.when):
        return Receipt.quiet("the state is as it was")
    # Sent again after an unclear answer: a message twice is better than none, and Slack keeps no order of ours.
    response = yield json_request("POST", target.url, message(notice))
    _require_ok(response)
    return Receipt(did=("posted a message",))


def _require_ok(response: Response) -> None:
    word = response.body.strip()
    if not response.is_success and word in _GONE:
        raise CannotNotify(
            f"Slack does not know this webhook any more ({word.decode()}). Make a new one.",
            gone=True,
            status=response.status,
        )
    require_success(response, doing="post the message in Slack")


def message(notice: Notice) -> dict[str, Any]:
    """The JSON of the message: a header without markup, one section a row, a context with the link."""
    findings = sort_rows(notice.outcome)
    shown = findings.worst[:ROWS_SHOWN]
    package = one_line(notice.package) or NOTHING
    blocks: list[dict[str, Any]] = [
        _header(title_line(notice, findings)),
        _section(f"*Package* {_code(package, 230)} · *suite* {_code(notice.suite, 130)}"),
        *(_section(_row_text(row)) for row in shown),
    ]
    rest = others(findings, len(shown))
    if rest:
        blocks.append(_section(rest))
    blocks.append({"type": "context", "elements": [_mrkdwn(_foot(notice))]})
    return {
        "text": _fallback(notice, findings, package),
        "blocks": blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }


def _fallback(notice: Notice, findings: Findings, package: str) -> str:
    """For notifications and screen readers, which show no blocks."""
    return _fit(f"{title_line(notice, findings)}: {package}", TEXT_CHARS)


def _row_text(row: Row) -> str:
    lines = [f"*{_code(row_name(row), 400)}*"]
    lines += [f"{word}: {_code(text, ROW_CHARS)}" for word, text in row_details(row)]
    return "\n".join(lines)


def _foot(notice: Notice) -> str:
    parts = [_fit(fact, SMALL_CHARS) for fact in facts(notice)]
    address = linkable(notice.url).replace("&", "&amp;")
    if address and "|" not in address:
        parts.append(f"<{address}|full result>")
    return " · ".join(parts)


def _header(text: str) -> dict[str, Any]:
    """Plain text: no markup in it, so nothing to escape."""
    return {"type": "header", "text": {"type": "plain_text", "text": cut(text, HEADER_CHARS), "emoji": False}}


def _section(markup: str) -> dict[str, Any]:
    return {"type": "section", "text": _mrkdwn(markup)}


def _mrkdwn(markup: str) -> dict[str, Any]:
    """Verbatim: Slack makes no link, channel or person of words by itself. https://docs.slack.dev/reference/block-kit/composition-objects/text-object"""
    return {"type": "mrkdwn", "text": markup, "verbatim": True}


def escape(text: str) -> str:
    """https://docs.slack.dev/messaging/formatting-message-text#escaping"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _fit(text: str, limit: int) -> str:
    """Other people's text, escaped, and cut so that it measures at most `limit` afterwards."""
    return escape(cut(one_line(text), limit, measure=lambda part: utf16_units(escape(part))))


def _code(text: str, limit: int) -> str:
    """As code, in which nothing is markup; a back-tick would end it."""
    return f"`{_fit(text.replace('`', '´'), limit) or NOTHING}`"
