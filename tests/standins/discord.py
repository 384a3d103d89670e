"""Discord's webhooks: closed bodies, the limits of each field and of all embeds together, edits by message id."""

from __future__ import annotations

import itertools
import re
from typing import Any

from tests.standins.web import Answer, Refused, Seen, StandIn, closed, is_whole_number, one_of, text

PATH = "/api/webhooks/123456789012345678/" + "t" * 68
EMBEDS_CHARS = 6_000


class Discord(StandIn):
    """One channel; `messages` is what stands in it, by id."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: dict[str, dict[str, Any]] = {}
        self.ids = itertools.count(223456789012345678)

    def answer(self, seen: Seen) -> Answer:
        if not seen.path.startswith(PATH):
            return Answer(status=404, body={"message": "Unknown Webhook", "code": 10015})
        rest = seen.path.removeprefix(PATH)
        if seen.method == "POST" and not rest:
            return self._execute(seen)
        if seen.method == "PATCH" and (found := re.fullmatch(r"/messages/(\d+)", rest)):
            return self._edit(seen, found[1])
        return Answer(status=404, body={"message": "404: Not Found", "code": 0})

    def _execute(self, seen: Seen) -> Answer:
        self._require_query(seen, {"wait", "thread_id", "with_components"})
        if seen.query.get("wait") != "true":
            raise _refused("wait is not `true`: a message that is not kept would give no error")
        body = self._require_message(seen)
        number = str(next(self.ids))
        self.messages[number] = body
        return Answer(body={"id": number, "channel_id": "1", "content": ""})

    def _edit(self, seen: Seen, number: str) -> Answer:
        self._require_query(seen, {"thread_id", "with_components"})
        if number not in self.messages:
            return Answer(status=404, body={"message": "Unknown Message", "code": 10008})
        self.messages[number] = self._require_message(seen)
        return Answer(body={"id": number})

    def _require_query(self, seen: Seen, allowed: set[str]) -> None:
        if unknown := set(seen.query) - allowed:
            raise _refused(f"unknown query parameters {sorted(unknown)}")

    def _require_message(self, seen: Seen) -> dict[str, Any]:
        body = seen.json()
        fields = {
            "content": text(2_000),
            "embeds": lambda value: isinstance(value, list) and 1 <= len(value) <= 10,
            "allowed_mentions": lambda value: value == {"parse": []},
        }
        wrong = closed(body, fields, required=("allowed_mentions",))
        embeds = body.get("embeds", [])
        if not embeds and not body.get("content"):
            wrong.append("neither content nor embeds")
        for embed in embeds:
            wrong += _wrong_embed(embed)
        if sum(_counted_chars(embed) for embed in embeds) > EMBEDS_CHARS:
            wrong.append("embeds hold more than 6,000 characters")
        if wrong:
            raise _refused("; ".join(wrong))
        return dict(body)


def _wrong_embed(embed: Any) -> list[str]:
    fields = {
        "title": text(256),
        "description": text(4_096),
        "url": lambda value: isinstance(value, str) and bool(re.fullmatch(r"https?://[\x21-\x7e]{1,2000}", value)),
        "color": lambda value: is_whole_number(value) and 0 <= value <= 0xFFFFFF,
        "fields": lambda value: isinstance(value, list) and len(value) <= 25,
        "footer": lambda value: not closed(value, {"text": text(2_048)}, required=("text",)),
        "timestamp": text(40),
    }
    wrong = closed(embed, fields)
    for item in embed.get("fields", []):
        checks = {"name": text(256), "value": text(1_024), "inline": one_of(True, False)}
        wrong += closed(item, checks, required=("name", "value"))
    return wrong


def _counted_chars(embed: dict[str, Any]) -> int:
    texts = [embed.get("title", ""), embed.get("description", ""), embed.get("footer", {}).get("text", "")]
    for item in embed.get("fields", []):
        texts += [item["name"], item["value"]]
    return sum(len(part.encode("utf-16-le")) // 2 for part in texts)


def _refused(why: str) -> Refused:
    return Refused(Answer(status=400, body={"message": "Invalid Form Body", "code": 50035}), why)
