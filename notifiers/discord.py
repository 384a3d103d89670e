"""`discord`: a message in a channel, by a webhook, edited in place when its id is known."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from notifiers import (
    Announcement,
    CannotNotify,
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
from notifiers._chat import ROWS_SHOWN, facts, others, row_details, row_name
from notifiers._findings import COLOURS, sort_rows
from notifiers._http import json_request
from notifiers._outcome import Row
from notifiers._report import title_line
from notifiers._text import NOTHING, cut, one_line
from notifiers._urls import linkable

HOSTS = frozenset({"discord.com", "ptb.discord.com", "canary.discord.com", "discordapp.com"})
PATH = re.compile(r"/api(?:/v\d{1,2})?/webhooks/\d{5,25}/[A-Za-z0-9_-]{20,200}")
FORM = "https://discord.com/api/webhooks/<number>/<token>"
_SNOWFLAKE = re.compile(r"\d{5,25}")
_THREAD = re.compile(r"(?:^|&)thread_id=(\d{5,25})(?:&|$)")

# One embed: title 256, description 4,096, name of a field 256, its value 1,024, footer 2,048; 6,000 in all. What is
# below adds up to 250 + 700 + 5 x (250 + 500) + 300, about 5,000.
TITLE_CHARS = 250
DESCRIPTION_CHARS = 700
FIELD_NAME_CHARS = 250
FIELD_VALUE_CHARS = 500
FOOTER_CHARS = 300
DETAIL_CHARS = 150

UNKNOWN_MESSAGE = 10008
MOODS = {"good": COLOURS["passed"], "warning": COLOURS["inconclusive"], "bad": COLOURS["failed"]}


@dataclass(frozen=True, kw_only=True)
class DiscordTarget:
    """A webhook's address, which is its secret, when to speak, and the message to edit.

    `message_id` is that of an earlier receipt: give it to edit the message, for a delivery that is tried again or the
    next push of one pull request; without it a new message is posted.
    """

    url: str = field(repr=False)
    when: Mode = "changes"
    message_id: str | None = None
    thread_id: str | None = None

    def __post_init__(self) -> None:
        for number in (self.message_id, self.thread_id):
            if number is not None and not _SNOWFLAKE.fullmatch(number):
                raise ValueError("message_id and thread_id have to be Discord's numbers")


def target_from_url(url: TargetUrl) -> DiscordTarget:
    """The target of this address, with its `thread_id`. Raises InvalidTarget for any other host or path."""
    address = url.require(hosts=HOSTS, path=PATH, example=FORM)
    thread = _THREAD.search(address.query)
    return DiscordTarget(url=address.base, thread_id=thread[1] if thread else None)


EXAMPLE = DiscordTarget(url="https://discord.com/api/webhooks/100000000000000000/none", when="always")


def say(announcement: Announcement, target: DiscordTarget) -> Messages:
    """Discord: one sentence in the channel."""
    embed = {
        "title": cut(announcement.headline, TITLE_CHARS),
        "color": MOODS.get(announcement.mood, COLOURS["inconclusive"]),
        **({"description": _code(announcement.text, DESCRIPTION_CHARS)} if announcement.text else {}),
        **({"url": announcement.link} if announcement.link else {}),
    }
    body = {"embeds": [embed], "allowed_mentions": {"parse": []}}
    response = yield json_request("POST", _address(target, "", wait=True), body)
    return Receipt(did=("posted a message",), message_id=_id_of(_require_kept(response, doing="post the message")))


@notifier("discord", example=EXAMPLE, from_url=target_from_url, say=say)
def tell(notice: Notice, target: DiscordTarget) -> Messages:
    """Discord: a message in a channel when the state changes, edited in place."""
    if target.when == "never":
        return Receipt.quiet("this target wants no messages")
    if target.message_id is not None and (yield from _edit(notice, target, target.message_id)):
        return Receipt(did=("edited the message",), message_id=target.message_id)
    if not notice.is_news(target.when):
        return Receipt.quiet("the state is as it was")
    # With wait=true Discord says whether it kept the message, and its id; without, a lost one gives no error.
    response = yield json_request("POST", _address(target, "", wait=True), message(notice))
    return Receipt(did=("posted a message",), message_id=_id_of(_require_kept(response, doing="post the message")))


def _edit(notice: Notice, target: DiscordTarget, message_id: str) -> Generator[Request, Response, bool]:
    """Whether the message was there to be edited."""
    response = yield json_request("PATCH", _address(target, f"/messages/{message_id}"), message(notice))
    if response.status == 404 and _code_of(response) == UNKNOWN_MESSAGE:
        return False
    _require_kept(response, doing="edit the message")
    return True


def _require_kept(response: Response, *, doing: str) -> Response:
    # 401 with code 50027: the token in the address is wrong. It never heals, and many such calls ban the caller.
    if response.status == 401:
        raise CannotNotify("Discord does not accept this webhook's token. Make a new one.", gone=True, status=401)
    return require_success(response, doing=f"{doing} in Discord")


def _address(target: DiscordTarget, path: str, *, wait: bool = False) -> str:
    query = [*(["wait=true"] if wait else []), *([f"thread_id={target.thread_id}"] if target.thread_id else [])]
    return target.url + path + (f"?{'&'.join(query)}" if query else "")


def _id_of(response: Response) -> str | None:
    body = response.json()
    found = body.get("id") if isinstance(body, dict) else None
    return found if isinstance(found, str) and _SNOWFLAKE.fullmatch(found) else None


def _code_of(response: Response) -> int | None:
    body = response.json()
    return body.get("code") if isinstance(body, dict) and isinstance(body.get("code"), int) else None


def message(notice: Notice) -> dict[str, Any]:
    """The JSON of the message: one embed, and no mention of anybody whatever the texts hold."""
    findings = sort_rows(notice.outcome)
    shown = findings.worst[:ROWS_SHOWN]
    lines = [f"{_code(notice.package, 230)} · {_code(notice.suite, 130)}"]
    if rest := others(findings, len(shown)):
        lines.append(rest)
    address = linkable(notice.url)
    embed: dict[str, Any] = {
        "title": cut(title_line(notice, findings), TITLE_CHARS),
        "description": cut("\n".join(lines), DESCRIPTION_CHARS),
        "color": COLOURS.get(notice.conclusion, COLOURS["inconclusive"]),
        "fields": [_field(row) for row in shown],
        "footer": {"text": cut(" · ".join(one_line(fact) for fact in facts(notice)), FOOTER_CHARS)},
        **({"url": address} if address else {}),
    }
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _field(row: Row) -> dict[str, Any]:
    details = "\n".join(f"{word}: {_code(text, DETAIL_CHARS)}" for word, text in row_details(row))
    return {
        "name": cut(_code(row_name(row), 200), FIELD_NAME_CHARS),
        "value": cut(details, FIELD_VALUE_CHARS) or NOTHING,
        "inline": False,
    }


def _code(text: str, limit: int) -> str:
    """As code, in which nothing is a mention, a link or markup; a back-tick would end it."""
    return f"`{cut(one_line(text.replace('`', '´')), limit) or NOTHING}`"
