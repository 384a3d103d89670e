"""The user's own model proxy: is it there, does it take the key, which models does it have."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from cli.errors import CommandError, NoLocalModels
from cli.user_config import is_loopback
from evals.models import Secret

if TYPE_CHECKING:
    import httpx


class _Listed(Struct, frozen=True):
    id: str


class _Models(Struct, frozen=True):
    data: tuple[_Listed, ...]


def list_models(base_url: str, *, key: Secret | None, timeout_seconds: float = 10.0) -> tuple[str, ...]:
    """The names that the proxy lists; none where it cannot say, as not every such server has a list.

    Raises NoLocalModels if nothing answers, CommandError if the key is refused.
    """
    # Here, as it takes a third of a second: `prpm test --local` says what it does before it asks anybody.
    import httpx

    headers = {"Authorization": f"Bearer {key.reveal()}"} if key is not None else {}
    try:
        response = httpx.get(
            models_url(base_url),
            headers=headers,
            timeout=timeout_seconds,
            trust_env=not is_loopback(base_url),
            follow_redirects=False,
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoLocalModels(f"Error: No LiteLLM proxy answers at {base_url}") from error
    # Without a database the proxy answers a wrong key with 500, not with 401.
    if response.status_code in (401, 403, 500):
        raise CommandError(
            f"The proxy at {base_url} refused the key (HTTP {response.status_code}). "
            "Set PRPM_LOCAL_KEY to its master key (LITELLM_MASTER_KEY).",
            code="local_key_refused",
        )
    return _names(response)


def speaks_messages(base_url: str, *, key: Secret | None, timeout_seconds: float = 10.0) -> bool:
    """Whether the server has Anthropic's Messages API, which agents need. It is asked for nothing, which costs nothing.

    True where it does not say: then the run finds out.
    """
    import httpx

    from evals.agents.relay import messages_url

    headers = {"Authorization": f"Bearer {key.reveal()}"} if key is not None else {}
    try:
        status = httpx.post(
            messages_url(base_url),
            json={},
            headers=headers,
            timeout=timeout_seconds,
            trust_env=not is_loopback(base_url),
            follow_redirects=False,
        ).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return True
    return status not in (404, 405, 501)


def models_url(base_url: str) -> str:
    """Where the list is. An address without a path gets the usual `/v1`."""
    return f"{base_url}/models" if urlsplit(base_url).path else f"{base_url}/v1/models"


def _names(response: httpx.Response) -> tuple[str, ...]:
    try:
        return tuple(model.id for model in msgspec.json.decode(response.content, type=_Models).data)
    except (ValueError, RecursionError):
        return ()
