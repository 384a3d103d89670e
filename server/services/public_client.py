"""A client that goes to public addresses alone: what a name leads to is looked at, and that is what is called."""

from __future__ import annotations

import ssl

import httpx

from server.services.certificates import trusted_certificates
from server.services.public_addresses import INTERNET, Network, NotPublic, checked_address


class PublicTransport(httpx.AsyncBaseTransport):
    """Sends https to public addresses, and anything to the exact origins that the operator allowed."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, allowed_origins: frozenset[str], network: Network) -> None:
        self._inner = inner
        self._allowed = allowed_origins
        self._network = network

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if origin_of(request.url) in self._allowed:
            return await self._inner.handle_async_request(request)
        if request.url.scheme != "https" or request.url.port not in (None, self._network.https_port):
            raise NotPublic
        host = request.url.host
        address = await checked_address(host, network=self._network)
        pinned = httpx.Request(
            request.method,
            request.url.copy_with(host=address),
            headers=request.headers,  # Host among them, as the name was written
            stream=request.stream,
            # The certificate is checked for the name, not for the address.
            extensions={**request.extensions, "sni_hostname": host},
        )
        return await self._inner.handle_async_request(pinned)

    async def aclose(self) -> None:
        await self._inner.aclose()


def origin_of(url: httpx.URL) -> str:
    """`scheme://host:port` as an operator writes it: without the port where it is the scheme's own."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}".lower()


def public_client(
    *,
    allowed_origins: frozenset[str] = frozenset(),
    network: Network = INTERNET,
    verify: ssl.SSLContext | None = None,
    connections: int = 4,
    kept: int = 1,
) -> httpx.AsyncClient:
    """A client for one delivery: public addresses only, no proxy from the environment (S9), no redirects (S3).

    One client serves one delivery, so that no connection that was made for one host is used for another that happens to
    have the same address. `connections` at most, of which `kept` stay open.
    """
    inner = httpx.AsyncHTTPTransport(
        verify=verify or trusted_certificates(),
        trust_env=False,
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=kept),
    )
    return httpx.AsyncClient(
        transport=PublicTransport(inner, allowed_origins=allowed_origins, network=network),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113 -- each request brings its own limit, over all of it
    )
