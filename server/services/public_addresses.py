"""Which addresses of the network a message may go to, and a transport that goes to no other.

A name is resolved once for a connection, every address that it has is looked at, and the connection goes to one that was
looked at, so a name that leads elsewhere a moment later gains nothing (S1, S2). Name and certificate stay the host's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence

import httpx

from notifiers import CannotNotify

HTTPS_PORT = 443
# Blocks that Python's `is_global` says nothing of, or that carry another address in them.
# https://www.iana.org/assignments/iana-ipv6-special-registry
_NEVER = tuple(
    ipaddress.ip_network(block)
    for block in (
        "64:ff9b:1::/48",  # NAT64 within one network
        "fec0::/10",  # site-local
        "192.88.99.0/24",  # 6to4 relays
        "2002::/16",  # 6to4: leads to whatever IPv4 address it carries
        "2001::/32",  # Teredo
        "100::/64",  # discarded
        "::/96",  # IPv4-compatible
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Awaitable[Sequence[str]]]


class NotPublic(CannotNotify):
    """The host leads into a network that is nobody's from outside; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("The address leads to a host that is not on the public internet, so nothing was sent.")


async def resolve(host: str) -> Sequence[str]:
    """Every address of a host, as the system knows it. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, HTTPS_PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(text: str) -> bool:
    """Whether this literal address is one of the public internet, and no address within it is another."""
    try:
        address: Address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(str(address.ipv4_mapped))
        if address in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)))
    if any(address.version == block.version and address in block for block in _NEVER):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def checked_address(host: str, *, resolve: Resolve = resolve) -> str:
    """One address of the host, after all of them were looked at. Raises NotPublic, or OSError for an unknown name."""
    addresses = await resolve(host)
    if not addresses:
        raise OSError("the name has no address")
    if not all(is_public(address) for address in addresses):
        raise NotPublic
    return addresses[0]


class PublicTransport(httpx.AsyncBaseTransport):
    """Sends https to public addresses, and anything to the exact origins that the operator allowed."""

    def __init__(self, inner: httpx.AsyncBaseTransport, *, allowed_origins: frozenset[str], resolve: Resolve) -> None:
        self._inner = inner
        self._allowed = allowed_origins
        self._resolve = resolve

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if origin_of(request.url) in self._allowed:
            return await self._inner.handle_async_request(request)
        if request.url.scheme != "https" or request.url.port not in (None, HTTPS_PORT):
            raise NotPublic
        host = request.url.host
        address = await checked_address(host, resolve=self._resolve)
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
    resolve: Resolve = resolve,
    verify: ssl.SSLContext | None = None,
) -> httpx.AsyncClient:
    """A client for one delivery: public addresses only, no proxy from the environment (S9), no redirects (S3).

    One client serves one delivery, so that no connection that was made for one host is used for another that happens to
    have the same address.
    """
    inner = httpx.AsyncHTTPTransport(
        verify=verify or ssl_context(),
        trust_env=False,
        limits=httpx.Limits(max_connections=4, max_keepalive_connections=1),
    )
    return httpx.AsyncClient(
        transport=PublicTransport(inner, allowed_origins=allowed_origins, resolve=resolve),
        trust_env=False,
        follow_redirects=False,
        timeout=None,  # noqa: S113 -- each request brings its own limit, over all of it
    )


_context: ssl.SSLContext | None = None


def ssl_context() -> ssl.SSLContext:
    """The certificates that are trusted, read once: reading them takes 20 ms."""
    global _context  # noqa: PLW0603 -- read once for the process, never changed
    if _context is None:
        _context = httpx.create_ssl_context(trust_env=False)
    return _context
