"""GitHub's side of an App's webhook: sends each delivery once, lists what it sent, and sends one again when asked.

https://docs.github.com/rest/apps/webhooks. Stricter than the real one: an unknown cursor or query parameter, a page
larger than 100 and an attempt that is not there are refused and noted.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from tests.standins.github_app import GitHubApp, not_found, refused
from tests.standins.web import Answer, Seen
from tests.webhooks import encoded, github_headers

PATIENCE_SECONDS = 10.0
KEPT_SECONDS = 3 * 86_400
SECRET = "a github secret"
WORDS = {0: "failed to connect to host"}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One try. `status` 0: there was no answer."""

    id: int
    guid: str
    event: str
    body: bytes
    at: float
    status: int
    is_again: bool

    @property
    def has_arrived(self) -> bool:
        return 200 <= self.status < 300


class GitHubSender(GitHubApp):
    """The App's webhook points to `hook_url`; deliveries are signed with `secret`."""

    def __init__(self, *, hook_url: str = "", secret: str = SECRET, **known: Any) -> None:
        super().__init__(**known)
        self.hook_url, self.secret = hook_url, secret
        self.attempts: list[Attempt] = []
        self.asked_again: list[str] = []  # delivery ids, in the order in which they were asked for
        self.is_sending_again = True
        self._attempt_numbers = itertools.count(1_000_001)
        self._sending = threading.Lock()
        self._again = ThreadPoolExecutor(8)

    def send(self, event: str, payload: Any, *, guid: str | None = None) -> Attempt:
        """One delivery, tried once."""
        return self._try(event, encoded(payload), guid or str(uuid.uuid4()), is_again=False)

    def note(self, *, status: int, guid: str, ago_seconds: float = 0.0, event: str = "push") -> None:
        """As if it had been sent then."""
        with self._sending:
            self.attempts.append(
                Attempt(
                    id=next(self._attempt_numbers), guid=guid, event=event, body=b"{}",
                    at=time.time() - ago_seconds, status=status, is_again=False,
                )
            )  # fmt: skip

    def _try(self, event: str, body: bytes, guid: str, *, is_again: bool) -> Attempt:
        at = time.time()
        headers = github_headers(body, secret=self.secret, event=event, delivery=guid)
        try:
            status = httpx.post(
                self.hook_url, content=body, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False
            ).status_code
        except httpx.TransportError:
            status = 0
        with self._sending:
            attempt = Attempt(
                id=next(self._attempt_numbers),
                guid=guid,
                event=event,
                body=body,
                at=at,
                status=status,
                is_again=is_again,
            )
            self.attempts.append(attempt)
        return attempt

    def answer(self, seen: Seen) -> Answer:
        if seen.path == "/app/hook/deliveries" and seen.method == "GET":
            return self._list(seen)
        if seen.method == "POST" and (found := re.fullmatch(r"/app/hook/deliveries/(\d+)/attempts", seen.path)):
            return self._send_again(seen, int(found[1]))
        return super().answer(seen)

    def _list(self, seen: Seen) -> Answer:
        self._require_proof(seen)
        self._query(seen, "per_page", "cursor")
        per_page = int(seen.query.get("per_page", 30))
        if not 1 <= per_page <= 100:
            raise refused(422, "per_page is 100 at most")
        with self._sending:
            listed = sorted(self._kept(), key=lambda one: one.id, reverse=True)
        if cursor := seen.query.get("cursor"):
            if not re.fullmatch(r"v1_\d+", cursor):
                raise refused(422, f"no such cursor: {cursor}")
            listed = [one for one in listed if one.id <= int(cursor.removeprefix("v1_"))]
        page, rest = listed[:per_page], listed[per_page:]
        link = (
            f'<{self.url}/app/hook/deliveries?per_page={per_page}&cursor=v1_{rest[0].id}>; rel="next"' if rest else ""
        )
        return Answer(headers={"Link": link} if link else {}, body=[_shown(one) for one in page])

    def _kept(self) -> list[Attempt]:
        return [one for one in self.attempts if one.at > time.time() - KEPT_SECONDS]

    def _send_again(self, seen: Seen, number: int) -> Answer:
        self._require_proof(seen)
        if seen.body not in (b"", b"{}"):
            raise refused(422, "a body that is not looked at")
        with self._sending:
            found = next((one for one in self._kept() if one.id == number), None)
        if found is None:
            return not_found()
        self.asked_again.append(found.guid)
        if self.is_sending_again:
            self._again.submit(self._try, found.event, found.body, found.guid, is_again=True)
        return Answer(status=202, body={})


def _shown(one: Attempt) -> dict[str, Any]:
    body = json.loads(one.body) if one.body.startswith(b"{") else {}
    return {
        "id": one.id, "guid": one.guid, "event": one.event, "action": body.get("action"), "redelivery": one.is_again,
        "delivered_at": datetime.fromtimestamp(one.at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), "duration": 0.05,
        "status": "OK" if one.has_arrived else WORDS.get(one.status, f"Invalid HTTP Response: {one.status}"),
        "status_code": one.status, "installation_id": 4001, "repository_id": 77, "throttled_at": None,
    }  # fmt: skip
