"""The user's own model proxy: is it there, does it take the key, which models does it have."""

from __future__ import annotations

import asyncio
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from cli.errors import CommandError, NoLocalModels
from cli.user_config import is_loopback
from evals.models import Secret


class _Listed(Struct, frozen=True):
    id: str


class _Models(Struct, frozen=True):
    data: tuple[_Listed, ...]


class _NoAnswer(Exception):
    """Nothing answers there."""


def list_models(base_url: str, *, key: Secret | None, timeout_seconds: float = 10.0) -> tuple[str, ...]:
    """The names that the proxy lists; none where it cannot say, as not every such server has a list.

    Raises NoLocalModels if nothing answers, CommandError if the key is refused.
    """
    try:
        status, body = asyncio.run(_ask("GET", models_url(base_url), key=key, timeout_seconds=timeout_seconds))
    except _NoAnswer as error:
        raise NoLocalModels(f"Error: No LiteLLM proxy answers at {base_url}") from error
    # Without a database the proxy answers a wrong key with 500, not with 401.
    if status in (401, 403, 500):
        raise CommandError(
            f"The proxy at {base_url} refused the key (HTTP {status}). "
            "Set PRPM_LOCAL_KEY to its master key (LITELLM_MASTER_KEY).",
            code="local_key_refused",
        )
    return _names(body)


def speaks_messages(base_url: str, *, key: Secret | None, timeout_seconds: float = 10.0) -> bool:
    """Whether the server has Anthropic's Messages API, which agents need. It is asked for nothing, which costs nothing.

    True where it does not say: then the run finds out.
    """
    from evals.agents.relay import messages_url

    try:
        status, _ = asyncio.run(
            _ask("POST", messages_url(base_url), key=key, timeout_seconds=timeout_seconds, content={})
        )
    except _NoAnswer:
        return True
    return status not in (404, 405, 501)


def models_url(base_url: str) -> str:
    """Where the list is. An address without a path gets the usual `/v1`."""
    return f"{base_url}/models" if urlsplit(base_url).path else f"{base_url}/v1/models"


async def _ask(
    method: Literal["GET", "POST"],
    url: str,
    *,
    key: Secret | None,
    timeout_seconds: float,
    content: dict[str, Any] | None = None,
) -> tuple[int, bytes]:
    """Status and body. Raises _NoAnswer."""
    # Here, as it takes a while: `prpm test --local` says what it does before it asks anybody. The run needs it anyway.
    import aiohttp

    headers = {"Authorization": f"Bearer {key.reveal()}"} if key is not None else {}
    try:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=not is_loopback(url),
            ) as session,
            session.request(method, url, headers=headers, json=content, allow_redirects=False) as answer,
        ):
            return answer.status, await answer.read()
    except (aiohttp.ClientError, OSError, ValueError) as error:  # time-outs are OSErrors
        raise _NoAnswer from error


def _names(body: bytes) -> tuple[str, ...]:
    try:
        return tuple(model.id for model in msgspec.json.decode(body, type=_Models).data)
    except (ValueError, RecursionError):
        return ()
