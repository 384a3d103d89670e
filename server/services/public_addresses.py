"""Which addresses of the network a message may go to (S1, S2).

A name is resolved once for a connection, every address that it has is looked at, and the connection goes to one of
them, so a name that leads elsewhere a moment later gains nothing (S1, S2). Name and certificate stay the host's.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

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
LookUp = Callable[[str], Awaitable[Sequence[str]]]


class NotPublic(CannotNotify):
    """The host leads into a network that is nobody's from outside; nothing was sent."""

    def __init__(self) -> None:
        super().__init__("The address leads to a host that is not on the public internet, so nothing was sent.")


async def addresses_of(host: str) -> Sequence[str]:
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


class Network(Struct, frozen=True, kw_only=True):
    """What a name leads to, which of that may be called, and where. Tests bring a network of their own."""

    look_up: LookUp = addresses_of
    is_public: Callable[[str], bool] = is_public
    https_port: int = HTTPS_PORT


INTERNET = Network()


async def checked_address(host: str, *, network: Network = INTERNET) -> str:
    """One address of the host, after all of them were looked at. Raises NotPublic, or OSError for an unknown name."""
    addresses = await network.look_up(host)
    if not addresses:
        raise OSError("the name has no address")
    if not all(network.is_public(address) for address in addresses):
        raise NotPublic
    return addresses[0]
