"""The registry beside this service: the test cases that it keeps for packages which bring none."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from msgspec import Struct

from evals.registry_cases import RegistryCase, suite_of_cases
from server.domain.errors import Unavailable
from server.services.certificates import trusted_certificates

PATIENCE_SECONDS = 5.0  # for both requests together, while a submit waits
MOST_BYTES = 4 * 2**20

Answer = TypeVar("Answer")


class _Package(Struct, frozen=True):
    id: str


class _Cases(Struct, frozen=True):
    test_cases: tuple[RegistryCase, ...] = ()


class UpstreamRegistry:
    """Asks one registry, without a token: what it shows to everybody."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    async def find_suite(self, package: str) -> dict[str, Any] | None:
        """A suite in its author's words of the cases that are kept for a published package; None without any.

        Raises Unavailable when the registry does not say.
        """
        import httpx  # here, as most processes never ask, and it takes a third of a second

        try:
            async with (
                asyncio.timeout(PATIENCE_SECONDS),
                httpx.AsyncClient(verify=trusted_certificates(), trust_env=False) as client,
            ):
                known = await self._read(client, f"/api/v1/packages/{quote(package, safe='')}", _Package)
                if known is None:
                    return None
                path = f"/api/v1/packages/{quote(known.id, safe='')}/test-cases?limit=50&sort=confidence"
                found = await self._read(client, path, _Cases)
        except (httpx.HTTPError, TimeoutError, ValueError, RecursionError):
            raise Unavailable(
                "The package has no tests of its own, and the registry that may keep cases for it does not answer. Try "
                "again, or send a suite with the request."
            ) from None
        return suite_of_cases(found.test_cases) if found is not None else None

    async def _read(self, client: Any, path: str, kind: type[Answer]) -> Answer | None:
        """None: there is no such thing. Raises ValueError, or the client's errors."""
        async with client.stream("GET", self._url + path, headers={"Accept": "application/json"}) as response:
            if response.status_code in (404, 405):
                return None
            if response.status_code != 200:
                raise ValueError(f"HTTP {response.status_code}")
            body = bytearray()
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES:
                    raise ValueError("too long")
        return msgspec.json.decode(bytes(body), type=kind, strict=False)
