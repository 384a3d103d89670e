"""An issuer's public keys (JWKS), fetched at most once a minute however many unknown key ids arrive (A4)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import structlog

from server.services.certificates import trusted_certificates

log = structlog.get_logger()

FETCH_SECONDS = 5.0
PAUSE_SECONDS = 60.0
LONGEST_KEY_ID = 200
LARGEST_ANSWER = 256 * 1024
NONSENSE = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what is no set of keys


class SigningKeys:
    """RSA keys by `kid`. Old keys are kept when the issuer cannot be reached or answers nonsense."""

    def __init__(self, url: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock
        self._keys: dict[str, Any] = {}
        self._asked_at: float | None = None
        self._lock = asyncio.Lock()

    @property
    def are_known(self) -> bool:
        """Whether the issuer was ever reached."""
        return bool(self._keys)

    async def find(self, kid: object) -> Any | None:
        """The key, None if the issuer has none of that id."""
        if not isinstance(kid, str) or len(kid) > LONGEST_KEY_ID:
            return None
        if kid not in self._keys:
            async with self._lock:
                if kid not in self._keys and self._may_ask():
                    await self._fetch()
        return self._keys.get(kid)

    def _may_ask(self) -> bool:
        return self._asked_at is None or self._clock() - self._asked_at >= PAUSE_SECONDS

    async def _fetch(self) -> None:
        import httpx  # here, as a service without JWKS never needs it

        self._asked_at = self._clock()
        try:
            # The whole of it within the time: an issuer that sends a byte now and then holds nobody up.
            async with asyncio.timeout(FETCH_SECONDS):
                answer = await _fetch_answer(self._url)
            found = {
                key.key_id: key.key
                for key in jwt.PyJWKSet.from_dict(json.loads(answer)).keys
                if key.key_type == "RSA" and key.key_id
            }
        except (httpx.HTTPError, TimeoutError, jwt.PyJWTError, *NONSENSE) as error:
            log.warning("signing keys not fetched", reason=type(error).__name__)
            return
        if found:
            self._keys = found


async def _fetch_answer(url: str) -> bytes:
    """The body. Raises ValueError for another status than 200, or for more bytes than are read."""
    import httpx

    async with (
        httpx.AsyncClient(
            timeout=FETCH_SECONDS, verify=trusted_certificates(), trust_env=False, follow_redirects=False
        ) as client,
        client.stream("GET", url, headers={"Accept": "application/json", "Accept-Encoding": "identity"}) as answer,
    ):
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"status {answer.status_code}")
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > LARGEST_ANSWER:
                raise ValueError("too large")
        return body
