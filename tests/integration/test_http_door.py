"""What stands between the network and the routes, over raw sockets: slow, malformed, huge and foreign requests."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from litestar import Litestar, Request, post

from server.api.errors import EXCEPTION_HANDLERS
from server.api.guards import ASGIApp, add_headers, limit_bodies
from server.domain.errors import TooSlow
from server.http_server import PatientProtocol, Server, configure
from tests.service import Account, Service

EVERYWHERE = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
LIVE = b"GET /health/live HTTP/1.1\r\nHost: test\r\n"
SUBMIT = b"POST /api/v1/test-jobs/run HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"


def send_raw(service: Service, *parts: bytes, seconds: float = 5) -> bytes:
    """Everything that comes back until the server closes. Fails if it does not."""
    port = urlsplit(service.url).port
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:  # it has closed already, and what it said can still be read
                break
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        return received


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body_of(answer: bytes) -> dict:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


MALFORMED = {
    "D9 length and chunked": SUBMIT
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + LIVE
    + b"\r\n",
    "D9 unknown coding": SUBMIT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "D9 two codings": SUBMIT + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "D9 line feeds only": LIVE.replace(b"\r\n", b"\n") + b"\n",
    "D9 space before colon": LIVE + b"X : a\r\n\r\n",
    "D9 folded header": LIVE + b"X: a\r\n b\r\n\r\n",
    "D9 NUL in a header": LIVE + b"X: a\x00b\r\n\r\n",
    "D9 bare CR in a header": LIVE + b"X: a\rb\r\n\r\n",
    "D9 chunk of 2^72 bytes": SUBMIT + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc",
    "W11 negative length": SUBMIT + b"Content-Length: -1\r\n\r\n",
    "W11 two lengths": SUBMIT + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "W11 length twice": SUBMIT + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "W11 list of lengths": SUBMIT + b"Content-Length: 4, 4\r\n\r\nabcd",
    "W11 length with a sign": SUBMIT + b"Content-Length: +4\r\n\r\nabcd",
    "unknown method": b"FOO / HTTP/1.1\r\nHost: test\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\nHost: test\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01" + bytes(50),
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "raw bytes in the path": b"GET /jobs/\xff\xfe HTTP/1.1\r\nHost: test\r\n\r\n",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_door__malformed_requests_are_a_400_and_the_connection_ends(service: Service, case: str):
    answer = send_raw(service, MALFORMED[case])

    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1 ") == 1  # what was smuggled behind it is not answered
    assert body_of(answer) == {"error": "This is not a proper HTTP request.", "code": "invalid_http"}
    head = answer.partition(b"\r\n\r\n")[0].lower()
    for name, value in EVERYWHERE.items():
        assert f"{name}: {value}".encode() in head


OVERSIZED = {
    "D9 1,000 headers": LIVE + b"".join(b"X-%d: y\r\n" % i for i in range(1000)) + b"\r\n",
    "D9 huge header": LIVE + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    "D9 huge address": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: test\r\n\r\n",
    "D9 huge header name": LIVE + b"a" * 200_000 + b": x\r\n\r\n",
}


@pytest.mark.parametrize("case", OVERSIZED)
def test_door__huge_heads_are_a_431_and_the_connection_ends(service: Service, case: str):
    answer = send_raw(service, OVERSIZED[case])

    assert status_of(answer) == 431
    assert body_of(answer)["code"] == "invalid_http"


def test_door__D9_a_header_without_an_end_is_cut_off(service: Service):
    pieces = [b"a" * 65_536] * 200

    answer = send_raw(service, LIVE + b"X: ", *pieces)

    # The refusal may be lost, as the connection ends while we still send.
    assert not answer or status_of(answer) == 431


def test_door__a_large_head_within_the_limit_is_served(service: Service):
    answer = send_raw(service, LIVE + b"Connection: close\r\nX: " + b"a" * 60_000 + b"\r\n\r\n")

    assert status_of(answer) == 200


def test_door__W11_a_chunked_body_of_30_MB_is_a_413(service: Service):
    alice = service.an_account()
    chunk = b"10000\r\n" + b"a" * 65_536 + b"\r\n"

    answer = send_raw(service, authorised(alice), b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 480)

    assert status_of(answer) == 413
    assert body_of(answer)["code"] == "too_large"
    assert answer.count(b"HTTP/1.1 ") == 1


def test_door__W11_a_body_of_30_MB_is_a_413(service: Service):
    alice = service.an_account()

    answer = send_raw(service, authorised(alice), b"Content-Length: 31457280\r\n\r\n", *[bytes(65_536)] * 480)

    assert status_of(answer) == 413
    assert body_of(answer)["error"] == "The body has 31457280 bytes; 11534336 are read."


def test_door__W11_a_huge_length_is_refused_before_the_body(service: Service):
    alice = service.an_account()

    began = time.monotonic()
    answer = send_raw(service, authorised(alice), b"Expect: 100-continue\r\nContent-Length: 31457280\r\n\r\n")

    assert status_of(answer) == 413
    assert time.monotonic() - began < 1


def authorised(account: Account) -> bytes:
    return SUBMIT + b"Authorization: Bearer " + account.token.encode() + b"\r\n"


class HastyProtocol(PatientProtocol):
    """The same limits, in a tenth of a second instead of seconds."""

    header_seconds = 0.3
    unread_seconds = 0.2


async def echo(scope, receive, send):
    """Reads the whole body and answers its length; `/unread` answers at once."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    length, more = 0, scope["path"] != "/unread"
    while more:
        message = await receive()
        length += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"<%02d>" % length})


@asynccontextmanager
async def serving(app: ASGIApp, *, protocol: type[PatientProtocol]) -> AsyncIterator[int]:
    """The port of a server in this process."""
    config = configure(app, host="127.0.0.1", port=0, protocol=protocol)
    config.loop = "asyncio"
    server = Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        assert not task.done(), task.exception()
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


@pytest.fixture
async def hasty_port() -> AsyncIterator[int]:
    """A server in this process whose limits are short."""
    async with serving(echo, protocol=HastyProtocol) as port:
        yield port


async def seconds_until_closed(port: int, *parts: bytes, trickle: bytes = b"") -> tuple[float, bytes]:
    """How long the server keeps the connection after the last part, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()

    async def read_all() -> None:
        while piece := await reader.read(65536):
            received.extend(piece)

    for part in parts:
        writer.write(part)
        await asyncio.sleep(0.02)
    began = time.monotonic()
    reading = asyncio.create_task(read_all())
    while not reading.done() and time.monotonic() - began < 3:
        if trickle:
            writer.write(trickle)
        await asyncio.wait([reading], timeout=0.05)
    writer.close()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return time.monotonic() - began, bytes(received)


GET = b"GET /unread HTTP/1.1\r\nHost: test\r\n"
SLOW = {
    "D1 nothing at all": ((), b""),
    "D1 half of the headers": ((GET,), b""),
    "D1 a header a piece": ((GET,), b"X: y\r\n"),
    "D1 a byte a piece": ((GET + b"X: ",), b"a"),
    "D1 half of the request line": ((b"GET /",), b""),
    "D1 empty lines": ((), b"\r\n"),
    "D1 half of a second request": ((GET + b"\r\n", GET), b""),
    "D1 a second request, a byte a piece": ((GET + b"\r\n", GET + b"X: "), b"a"),
    "D1 empty lines after a request": ((GET + b"\r\n",), b"\r\n"),
    "D2 a body that nobody reads": ((GET + b"Content-Length: 1000\r\n\r\n",), b"a"),
}


@pytest.mark.parametrize("case", SLOW)
async def test_door__a_request_that_does_not_end_is_closed(hasty_port: int, case: str):
    parts, trickle = SLOW[case]

    seconds, _ = await seconds_until_closed(hasty_port, *parts, trickle=trickle)

    assert seconds < 1.5


async def test_door__a_slow_but_honest_client_is_served_again_and_again(hasty_port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty_port)

    for _ in range(3):
        writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n")
        for byte in b"abcd":
            await asyncio.sleep(0.1)  # in all longer than the headers may take
            writer.write(bytes([byte]))
        assert (await reader.readuntil(b"<04>")).startswith(b"HTTP/1.1 200 ")

    writer.close()
    await writer.wait_closed()


async def test_door__a_connection_is_used_again_once_an_unread_body_has_come(hasty_port: int):
    reader, writer = await asyncio.open_connection("127.0.0.1", hasty_port)

    writer.write(b"POST /unread HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nab")
    await reader.readuntil(b"<00>")
    writer.write(b"cd")
    await asyncio.sleep(0.25)  # longer than it may stay unread
    writer.write(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx")

    assert (await reader.readuntil(b"<01>")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


async def through(app: ASGIApp, *, headers: dict[str, str], next_piece: Callable) -> int:
    """The status that the app answers to a body that comes piece by piece."""
    sent: list = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }

    async def send(message) -> None:
        sent.append(message)

    await app(scope, next_piece, send)
    return sent[0]["status"]


async def test_bodies__D2_a_byte_at_a_time_ends_at_the_limit():
    async def a_byte():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    began = time.monotonic()
    with pytest.raises(TooSlow):
        await through(limit_bodies(echo, seconds=0.2), headers={}, next_piece=a_byte)

    assert 0.15 < time.monotonic() - began < 0.6


async def test_bodies__a_refused_one_is_thrown_away_for_a_while_only():
    async def a_byte():
        await asyncio.sleep(0.02)
        return {"type": "http.request", "body": b"a", "more_body": True}

    began = time.monotonic()
    status = await through(
        limit_bodies(echo, largest=10, unread_seconds=0.2), headers={"content-length": "11"}, next_piece=a_byte
    )

    assert status == 413
    assert 0.15 < time.monotonic() - began < 0.6


@post("/read")
async def read_body(request: Request) -> int:
    return len(await request.body())


async def test_door__D2_a_body_that_stops_is_a_408_in_the_contracts_form():
    app = Litestar([read_body], exception_handlers=EXCEPTION_HANDLERS, openapi_config=None, logging_config=None)
    async with serving(add_headers(limit_bodies(app, seconds=0.3)), protocol=HastyProtocol) as port:
        head = b"POST /read HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n"
        seconds, answer = await seconds_until_closed(port, head, trickle=b"a")

    assert status_of(answer) == 408
    assert body_of(answer) == {"error": "The body did not arrive within 0.3 s.", "code": "too_slow"}
    assert seconds < 1.5


ROUTES = {
    "unknown": ("GET", "/nope", 404, "not_found"),
    "unknown below the API": ("GET", "/api/v1/nope", 404, "not_found"),
    "GET on a POST route": ("GET", "/api/v1/package-snapshots", 405, "method_not_allowed"),
    "PUT on a POST route": ("PUT", "/api/v1/test-jobs/run", 405, "method_not_allowed"),
    "POST on a GET route": ("POST", "/api/v1/user", 405, "method_not_allowed"),
    "DELETE": ("DELETE", "/api/v1/user", 405, "method_not_allowed"),
    "TRACE": ("TRACE", "/health/live", 405, "method_not_allowed"),
    "no token": ("GET", "/api/v1/user", 401, "unauthorized"),
}


@pytest.mark.parametrize("case", ROUTES)
def test_door__W22_refusals_have_the_contracts_form(service: Service, case: str):
    method, path, status, code = ROUTES[case]

    answer = service.visitor().request(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["//health/live", "//evil.example/health/live", "/health//live", "/%2e%2e/etc/passwd", "/a" * 3000],
)  # fmt: skip
def test_door__W22_odd_addresses_are_found_or_not_but_never_a_fault(service: Service, path: str):
    answer = send_raw(service, f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n".encode())

    assert status_of(answer) in (200, 404)
    assert b"\r\nlocation:" not in answer.lower()


@pytest.mark.parametrize(
    ("path", "status"), [("/health/live", 200), ("/docs", 200), ("/nope", 404), ("/api/v1/user", 401)]
)
def test_door__HEAD_is_answered_like_GET_without_the_body(service: Service, path: str, status: int):
    visitor = service.visitor()

    answer = visitor.head(path)

    assert answer.status_code == status
    assert answer.content == b""
    assert answer.headers["content-length"] == visitor.get(path).headers["content-length"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/health/live"), ("GET", "/nope"), ("PUT", "/api/v1/user"), ("GET", "/api/v1/user"), ("GET", "/docs"),
        ("GET", "/docs/openapi.json"), ("GET", "/jobs/x"), ("GET", "/login"), ("POST", "/login"),
        ("OPTIONS", "/api/v1/user"),
    ],
)  # fmt: skip
def test_door__security_headers_are_on_every_answer(service: Service, method: str, path: str):
    answer = service.visitor().request(method, path)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] in ("no-referrer", "same-origin")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]
    assert len(answer.headers["x-request-id"]) == 16
    assert "server" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
def test_door__A17_a_foreign_origin_gets_no_leave(service: Service, method: str):
    alice = service.an_account()

    answer = alice.client.request(
        method,
        "/api/v1/user",
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"},
    )

    assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("name", ["token", "access_token", "api_key", "jwt"])
@pytest.mark.parametrize("path", ["/api/v1/user", "/api/v1/packages/sample", "/jobs/x", "/packages/sample/tests"])
def test_door__A15_a_token_in_the_address_is_refused_and_in_no_log(service: Service, path: str, name: str):
    alice = service.an_account()

    answer = service.visitor().get(path, params={name: alice.token})

    assert answer.status_code == 400
    assert "header" in answer.json()["error"]
    assert alice.token not in (service.folder / "api.log").read_text()


def test_door__A16_forwarded_addresses_change_nothing(service: Service):
    """No proxy is configured, so nobody's word about where a request comes from counts."""
    alice = service.an_account()
    spoofed = {
        "X-Forwarded-For": "10.0.0.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example",
        "Forwarded": "for=10.0.0.1;host=evil.example",
    }  # fmt: skip

    answer = alice.client.get("/jobs/x", headers=spoofed)
    plain = alice.client.get("/jobs/x")

    assert answer.content == plain.content
    assert "evil.example" not in str(answer.headers)


def test_log__L1_every_line_of_the_api_is_one_event(service: Service):
    send_raw(service, b"\x16\x03\x01 not HTTP")
    service.visitor().get("/nope\\n%0d%0a{%22event%22:1}", headers={"User-Agent": "x\x1b[31m %s {}"})
    send_raw(service, LIVE + b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n")

    lines = Path(service.folder / "api.log").read_text().splitlines()

    assert lines
    assert all(isinstance(json.loads(line)["event"], str) for line in lines)
    assert "\x1b" not in "".join(lines)


def test_door__D1_three_hundred_half_requests_keep_nobody_waiting(service: Service):
    port = urlsplit(service.url).port
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(300)]
    for connection in slow:
        connection.sendall(LIVE)

    with httpx.Client(base_url=service.url, trust_env=False) as client:
        seconds = [client.get("/health/live").elapsed.total_seconds() for _ in range(50)]

    for connection in slow:
        connection.close()
    assert sorted(seconds)[45] < 0.2
