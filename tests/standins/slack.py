"""Slack's incoming webhooks: Block Kit with its limits, closed bodies, its own words for errors."""

from __future__ import annotations

import re
from typing import Any

from tests.standins.web import Answer, Refused, Seen, StandIn, closed, one_of, text

PATH = "/services/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"
TOTAL_CHARS = 13_000
# What would notify people, or lead them away: mentions, and links that are not ours.
ACTIVE = re.compile(r"<(?!https://testing\.example/|http://127\.0\.0\.1:\d+/jobs/)[^>]*>")


class Slack(StandIn):
    """One channel; `messages` is what stands in it."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    def answer(self, seen: Seen) -> Answer:
        if seen.path != PATH or seen.method != "POST":
            return Answer(status=404, body=b"no_service")
        if seen.headers.get("content-type") != "application/json":
            raise _refused("invalid_payload", "Content-Type is not JSON")
        body = seen.json()
        fields = {
            "text": text(4_000),
            "blocks": lambda value: isinstance(value, list) and 1 <= len(value) <= 50,
            "unfurl_links": one_of(False),
            "unfurl_media": one_of(False),
        }
        wrong = closed(body, fields, required=("text", "blocks", "unfurl_links", "unfurl_media"))
        for block in body.get("blocks", []):
            wrong += _wrong_block(block)
        wrong += [f"text is active: {found}" for found in ACTIVE.findall(body.get("text", ""))]
        if wrong:
            raise _refused("invalid_blocks", "; ".join(wrong))
        if _total_chars(body["blocks"]) > TOTAL_CHARS:
            raise _refused("msg_blocks_too_long", "blocks hold more than 13,000 characters")
        self.messages.append(body)
        return Answer(body=b"ok")


def _wrong_block(block: Any) -> list[str]:
    match block.get("type"):
        case "header":
            wrong = closed(block, {"type": one_of("header"), "text": lambda value: True}, required=("text",))
            return wrong + _wrong_text(block["text"], limit=150, kinds=("plain_text",))
        case "section":
            wrong = closed(block, {"type": one_of("section"), "text": lambda value: True}, required=("text",))
            return wrong + _wrong_text(block["text"], limit=3_000, kinds=("plain_text", "mrkdwn"))
        case "context":
            fields = {"type": one_of("context"), "elements": lambda value: 1 <= len(value) <= 10}
            wrong = closed(block, fields, required=("elements",))
            return wrong + [
                problem
                for element in block["elements"]
                for problem in _wrong_text(element, limit=2_000, kinds=("plain_text", "mrkdwn"))
            ]
        case other:
            return [f"a block of type {other!r}"]


def _wrong_text(value: Any, *, limit: int, kinds: tuple[str, ...]) -> list[str]:
    wrong = closed(
        value,
        {"type": one_of(*kinds), "text": text(limit), "emoji": one_of(False), "verbatim": one_of(True)},
        required=("type", "text"),
    )
    if value.get("type") == "mrkdwn":
        if value.get("verbatim") is not True:
            wrong.append("markup that is not verbatim: Slack would make links and mentions of words")
        wrong += [f"active: {found}" for found in ACTIVE.findall(value.get("text", ""))]
    return wrong


def _total_chars(value: Any) -> int:
    if isinstance(value, dict):
        return sum(_total_chars(item) for item in value.values())
    if isinstance(value, list):
        return sum(_total_chars(item) for item in value)
    return len(value) if isinstance(value, str) else 0


def _refused(word: str, why: str) -> Refused:
    return Refused(Answer(status=400, body=word.encode()), why)
