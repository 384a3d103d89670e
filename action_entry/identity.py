"""The token for the service: the workflow's own, or a short one for the CI system's signed word about this run."""

from __future__ import annotations

from action_entry.ci import Ci, Event, Send
from action_entry.errors import Misused, NotAllowed, NotNow
from action_entry.inputs import Inputs
from action_entry.service import refusal
from action_entry.wire import Wire, as_body, as_object
from notifiers import CannotNotify

EXCHANGE = "/api/v1/auth/oidc/exchange"
APP_INSTEAD = "If the prpm App is installed on the repository, it tests this change by itself and reports on it."


class Identity:
    """Who we are to the service; `token` may be asked for again when a short one has ended."""

    def __init__(self, ci: Ci, inputs: Inputs, event: Event, *, wire: Wire, send: Send) -> None:
        self._ci = ci
        self._inputs = inputs
        self._event = event
        self._wire = wire
        self._send = send

    @property
    def is_short(self) -> bool:
        """Whether the token ends after some minutes and can be had anew."""
        return not self._inputs.api_token

    def token(self) -> str:
        """A token, masked in the log. Raises NotAllowed for forks, Misused where the workflow gives nothing."""
        if self._inputs.api_token:
            self._ci.mask(self._inputs.api_token)
            return self._inputs.api_token
        return self._exchange(self._id_token())

    def _id_token(self) -> str:
        try:
            token = self._ci.id_token(self._inputs.server_url, send=self._send)
        except CannotNotify as error:
            raise NotNow(error.message) from None
        if token:
            self._ci.mask(token)
            return token
        if self._event.restricted:
            raise NotAllowed(f"{self._event.restricted} {APP_INSTEAD}")
        raise Misused(
            "There is neither an api-token nor an identity. Add `permissions: id-token: write` to the job (keyless), "
            "or give api-token."
        )

    def _exchange(self, id_token: str) -> str:
        """A token of the service for some minutes. A refusal is the workflow's to mend: the registration is missing."""
        response = self._wire.call(
            "POST", EXCHANGE, body=as_body({"token": id_token}), headers={"Content-Type": "application/json"}
        )
        if not response.is_success:
            raise refusal(response, base_url=self._wire.base_url)
        token = as_object(response).get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
            raise NotNow("The service gave no token for this run's identity.")
        self._ci.mask(token)
        return token
