"""An address that sends one bad token after the other is told to wait (A16).

Only what is answered 401 counts, at whichever door. The count is kept in Redis for all processes of the API, and in
this process while Redis is away; a good request costs no round trip for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
from redis.exceptions import RedisError

from server.api.context import SESSION_COOKIE
from server.api.guards import ASGIApp, Message, Receive, Scope, Send, refuse
from server.domain.errors import InvalidRequest

log = structlog.get_logger()

WINDOW_SECONDS = 60
DELIVERIES = "webhooks/"
MOST_REMEMBERED = 10_000
SENTENCE = "Too many tokens from your address were not valid. Log in with `prpm login`, and wait before the next try."
# How long an answer may wait for the count, when Redis hangs.
PATIENCE_SECONDS = 0.25
# One call: the count with this guess, and the milliseconds until it starts anew.
COUNT = """
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return {count, redis.call('PTTL', KEYS[1])}
"""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Count(NamedTuple):
    """Guesses of an address, and for how many seconds they count."""

    guesses: int
    seconds_left: float


def read_proxies(text: str | None) -> tuple[Network, ...]:
    """The networks of `10.0.0.0/8, 192.0.2.1`. Raises InvalidRequest."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in (text or "").split(",") if part.strip())
    except ValueError:
        raise InvalidRequest(
            "PRPM_TRUSTED_PROXIES: must be addresses or networks such as 10.0.0.0/8, with a comma between several."
        ) from None


class GuessBook:
    """Who guessed how often. `most` bad tokens a minute are answered; what comes after is not looked at."""

    def __init__(
        self, most: int, *, proxies: Sequence[Network] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._proxies = tuple(proxies)
        self._clock = clock
        self._redis: Any = None  # redis.asyncio has no types for what a script answers
        self._own: OrderedDict[str, Count] = OrderedDict()  # seconds_left: of the clock
        self._blocked: OrderedDict[str, float] = OrderedDict()
        self._good: OrderedDict[bytes, None] = OrderedDict()

    def share(self, redis: Any) -> None:
        """Count together with the other processes from now on."""
        self._redis = redis

    def address_of(self, scope: Scope) -> str:
        """Whose guess it is: an IPv4 address, or the /64 that one IPv6 customer has. "local" for a socket's file.

        X-Forwarded-For counts only as far as trusted proxies wrote it: read from its end, the first address that is
        none of theirs.
        """
        client = scope.get("client")
        host = _parse(client[0]) if client else None
        if host is None:
            return "local"
        if any(host in network for network in self._proxies):
            named = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
            for part in reversed(named.decode("latin-1").split(",")):
                further = _parse(part.strip())
                if further is None:
                    break
                host = further
                if not any(host in network for network in self._proxies):
                    break
        return str(ipaddress.ip_network((host, 64), strict=False)) if host.version == 6 else str(host)

    def seconds_blocked(self, address: str, token: bytes | None) -> float:
        """How long the address has to wait; nought for one that may go on, or whose token was good lately."""
        until = self._blocked.get(address)
        if until is None:
            return 0.0
        if until <= self._clock():
            del self._blocked[address]
            return 0.0
        return 0.0 if token is not None and _digest(token) in self._good else until - self._clock()

    def was_good(self, token: bytes) -> None:
        """Whoever holds it is not stopped by what others at their address do."""
        digest = _digest(token)
        self._good[digest] = None
        self._good.move_to_end(digest)
        while len(self._good) > MOST_REMEMBERED:
            self._good.popitem(last=False)

    async def was_bad(self, address: str, token: bytes | None) -> float:
        """One more guess of this address. How long it has to wait from now on; nought if it may go on."""
        if token is not None:
            self._good.pop(_digest(token), None)
        count = await self._count(address)
        if count.guesses <= self._most:
            return 0.0
        self._blocked[address] = self._clock() + count.seconds_left
        while len(self._blocked) > MOST_REMEMBERED:
            self._blocked.popitem(last=False)
        log.warning("address blocked for guessing", address=address, seconds=round(count.seconds_left))
        return count.seconds_left

    async def _count(self, address: str) -> Count:
        """The larger of what all processes and what this one counted."""
        # Here too, so that a Redis that comes and goes makes no more room for guesses.
        own = self._count_here(address)
        if self._redis is not None:
            try:
                async with asyncio.timeout(PATIENCE_SECONDS):
                    guesses, milliseconds = await self._redis.eval(
                        COUNT, 1, f"prpm:guesses:{address}", WINDOW_SECONDS * 1000
                    )
                return max(own, Count(guesses, max(milliseconds / 1000, 1.0)))
            except (RedisError, OSError, TimeoutError):
                pass
        return own

    def _count_here(self, address: str) -> Count:
        now = self._clock()
        earlier = self._own.pop(address, None)
        until = earlier.seconds_left if earlier and earlier.seconds_left > now else now + WINDOW_SECONDS
        guesses = earlier.guesses + 1 if earlier and earlier.seconds_left > now else 1
        self._own[address] = Count(guesses, until)
        while len(self._own) > MOST_REMEMBERED:
            self._own.popitem(last=False)
        return Count(guesses, until - now)


def limit_guesses(app: ASGIApp, book: GuessBook) -> ASGIApp:
    """Answers 429 to addresses that guess tokens, before and in place of anything else that they would be told."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        token = _shown(scope)
        # Deliveries have a rate of their own: forges have a few addresses for all of their users, so that one with a
        # wrong secret must not close the door to others (services/limiting.py).
        is_attempt = (token is not None or scope["method"] == "POST") and not _is_delivery(scope)
        address = book.address_of(scope) if is_attempt else ""
        if is_attempt and (seconds := book.seconds_blocked(address, token)):
            await _refuse(send, seconds)
            return
        replaced = False

        async def send_or_replace(message: Message) -> None:
            nonlocal replaced
            if message["type"] == "http.response.start" and is_attempt:
                if message["status"] != 401:
                    if token is not None:
                        book.was_good(token)
                elif seconds := await book.was_bad(address, token):
                    replaced = True
                    await _refuse(send, seconds)
            if not replaced:
                await send(message)

        await app(scope, receive, send_or_replace)

    return guarded


def _is_delivery(scope: Scope) -> bool:
    return str(scope["path"]).lstrip("/").startswith(DELIVERIES)  # the framework drops slashes too many


def _shown(scope: Scope) -> bytes | None:
    """The header with a token or a session, if there is one."""
    for name, value in scope["headers"]:
        if name == b"authorization" or (name == b"cookie" and SESSION_COOKIE.encode() in value):
            return bytes(value)
    return None


async def _refuse(send: Send, seconds: float) -> None:
    await refuse(send, 429, SENTENCE, "too_many_guesses", retry_after_seconds=int(seconds) + 1)


def _parse(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
