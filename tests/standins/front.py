"""A door in front of a running service: everything is handed on as it is, and kept in a log for tests to look at."""

from __future__ import annotations

import http.client
from urllib.parse import urlencode, urlsplit

from tests.standins.web import Answer, Fault, Seen, StandIn

HANDED_ON = ("authorization", "content-type", "accept", "idempotency-key", "last-event-id", "if-none-match")


class Front(StandIn):
    """In front of the service at `behind`. It stands in for nothing: what the service lacks is lacking."""

    def __init__(self, behind: str) -> None:
        super().__init__()
        self._behind = urlsplit(behind)

    def respond(self, seen: Seen) -> tuple[Answer | None, Fault | None]:
        """As its base, but several requests at a time: one of them may follow events."""
        with self.lock:
            self.log.append(seen)
        return self._ask(seen), None

    def _ask(self, seen: Seen) -> Answer:
        connection = http.client.HTTPConnection(self._behind.hostname or "", self._behind.port or 80, timeout=60)
        try:
            query = f"?{urlencode(seen.query)}" if seen.query else ""
            headers = {name: seen.headers[name] for name in HANDED_ON if name in seen.headers}
            connection.request(seen.method, seen.path + query, body=seen.body or None, headers=headers)
            response = connection.getresponse()
            kept = {"content-type": response.headers.get("content-type", "")}
            return Answer(status=response.status, headers=kept, body=response.read())
        finally:
            connection.close()
