"""A door in front of a running service: what the service has not got yet is added, everything else is handed on.

`report` in a job's answer and the exchange of id tokens are filled in only where the service behind gives neither, so
this stands in for nothing that is there.
"""

from __future__ import annotations

import hashlib
import http.client
import json
from typing import Any
from urllib.parse import urlencode, urlsplit

from tests.standins.testing_service import ID_TOKEN
from tests.standins.web import Answer, Fault, Seen, StandIn

HANDED_ON = ("authorization", "content-type", "accept", "idempotency-key", "last-event-id", "if-none-match")
EXCHANGE = "/api/v1/auth/oidc/exchange"


class Front(StandIn):
    """In front of the service at `behind`, whose account's token is given for id tokens."""

    def __init__(self, behind: str, *, token: str) -> None:
        super().__init__()
        self._behind = urlsplit(behind)
        self._token = token
        self.exchanged: list[str] = []

    def respond(self, seen: Seen) -> tuple[Answer | None, Fault | None]:
        """As its base, but several requests at a time: one of them may follow events."""
        with self.lock:
            self.log.append(seen)
        if seen.path == EXCHANGE:
            return self._exchange(seen), None
        answer = self._ask(seen)
        if seen.path.endswith("/events"):
            lines = answer.body.decode().split("\n")
            body = "\n".join(self._with_report_in_data(line) for line in lines).encode()
            return Answer(status=answer.status, headers=answer.headers, body=body), None
        if answer.headers.get("content-type", "").startswith("application/json") and "/test-jobs/" in seen.path:
            body = json.dumps(self._with_report(json.loads(answer.body))).encode() if answer.body else b""
            return Answer(status=answer.status, headers=answer.headers, body=body), None
        return answer, None

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

    def _exchange(self, seen: Seen) -> Answer:
        given = seen.json().get("token", "")
        if not given.startswith(ID_TOKEN) or given in self.exchanged:
            self.violations.append("a wrong id token, or one twice")
            return Answer(status=401, body={"error": "This id token cannot be used.", "code": "invalid_token"})
        self.exchanged.append(given)
        return Answer(body={"token": self._token, "expires_at": "2030-01-01T00:00:00Z", "account": "demo"})

    def _with_report_in_data(self, line: str) -> str:
        if not line.startswith("data: {"):
            return line
        return f"data: {json.dumps(self._with_report(json.loads(line[6:])))}"

    def _with_report(self, value: Any) -> Any:
        """A job's answer with `report`, if it is of a change and the service behind says nothing about it."""
        if not isinstance(value, dict) or "change" not in value or "report" in value:
            return value
        change = value["change"]
        about = [change["repository_id"], change.get("pull_request"), value["package"]["name"], value.get("suite_name")]
        marker = hashlib.sha256(json.dumps(about).encode()).hexdigest()
        return value | {"report": {"marker": marker, "reporter": "action"}}
