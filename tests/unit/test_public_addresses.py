"""S1 to S9: where messages may go, and that they go nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from notifiers import InvalidTarget, Receipt, Request, checked_url, target_for
from notifiers._http import CannotNotify, Messages, NoResponse, Patience
from server.services.posting import post
from server.services.public_addresses import INTERNET, Network, NotPublic, checked_address, is_public
from server.services.public_client import public_client
from tests.standins.web import Answer, Fault, StandIn

ONE_TRY = Patience(tries=1, pauses_seconds=0.0)

# S1: 40 and more spellings of places that are nobody's business.
INNER_HOSTS = (
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.1", "127.0.1", "127.255.255.254",
    "0.0.0.0", "0", "0x7f.1", "0x7f000001", "0177.0.0.1", "017700000001", "2130706433", "127.0.0.1.", "[::1]", "[::]",  # noqa: S104 -- refused, not bound
    "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a00:1]", "[64:ff9b::7f00:1]", "[fd00:ec2::254]",
    "[fe80::1]", "[fe80::1%25eth0]", "[ff02::1]", "[2002:7f00:1::]", "169.254.169.254", "169.254.170.2", "10.0.0.1",
    "172.16.0.1", "192.168.0.1", "100.64.0.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "metadata", "metadata.google.internal", "db.internal", "router.lan", "printer.local", "x.home.arpa", "①②⑦.⓪.⓪.①",
    "127。0。0。1", "ⅼocalhost",
)  # fmt: skip
INNER_ADDRESSES = (
    "127.0.0.1", "127.8.9.1", "0.0.0.0", "10.1.2.3",  # noqa: S104 -- refused, not bound
    "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
    "169.254.169.254", "192.0.0.1", "192.0.2.1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1",
    "::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:a00:1::1", "fc00::1",
    "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "nonsense", "",
)  # fmt: skip
OUTER_ADDRESSES = ("93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101")


@pytest.mark.parametrize("host", INNER_HOSTS)
def test_address__S1_no_spelling_of_an_inner_host_is_saved(host: str):
    with pytest.raises(InvalidTarget):
        checked_url(f"https://{host}/hook")


@pytest.mark.parametrize("address", INNER_ADDRESSES)
def test_address__S1_inner_addresses_are_refused_when_connecting(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTER_ADDRESSES)
def test_address__public_ones_are_called(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@receiver.example/", "https://user:hunter2@receiver.example/", "https://@receiver.example/",
        "https://receiver.example\\@127.0.0.1/", "https://receiver.example#@127.0.0.1/",
        "https://receiver.example/#x",
        "https://receiver.example/\t", "https://receiver.example/\nx", " https://receiver.example/",
        "https://reçeiver.example/", "https://xn--.example:99999/", "https://receiver.example:22/",
        "https://receiver.example:6379/", "https://receiver.example:8443/", "http://receiver.example/",
        "ftp://receiver.example/", "gopher://receiver.example/", "file:///etc/hostname", "//receiver.example/",
        "receiver.example", "https://", "https:///x", "javascript:alert(1)",
        "https://[::1", "https://receiver.example%00.evil.example/", "https://re ceiver.example/",
        "https://a..example/", "https://-a.example/", f"https://{'a' * 64}.example/", f"https://a.example/{'a' * 2048}",
    ],
)  # fmt: skip
def test_address__S4_S7_what_two_parsers_could_read_in_two_ways_is_refused(url: str):
    with pytest.raises(InvalidTarget) as refused:
        target_for("webhook", url)

    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("slack", "https://hooks.slack.com.evil.example/services/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"),
        ("slack", "https://evil.example/services/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"),
        ("slack", "https://slack.com/services/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"),
        ("slack", "https://hooks.slack.com/services/T0AAAAAA/../../api"),
        ("slack", "https://hooks.slack.com/workflows/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"),
        ("discord", "https://discord.com.evil.example/api/webhooks/123456789012345678/" + "t" * 68),
        ("discord", "https://discord.com/api/webhooks/123456789012345678/" + "t" * 68 + "/../x"),
        ("discord", "https://discord.com/api/users/@me"),
        ("discord", "https://cdn.discordapp.com/api/webhooks/123456789012345678/" + "t" * 68),
    ],
)
def test_address__S6_chats_have_exact_hosts_and_paths(kind: str, url: str):
    with pytest.raises(InvalidTarget, match="of another form than"):
        target_for(kind, url)


def test_address__S7_a_line_break_in_a_header_is_never_sent():
    request = Request(method="POST", url="https://receiver.example/", headers={"X-A": "b\r\nX-C: d"}, body=b"")

    with pytest.raises(CannotNotify):
        run(one(request), network=Network(look_up=outer))


# Names.


async def outer(host: str) -> Sequence[str]:
    return ["203.0.113.9"]


def test_name__S1_is_refused_if_one_of_its_addresses_is_inner():
    async def mixed(host: str) -> Sequence[str]:
        return ["93.184.216.34", "10.0.0.1"]

    with pytest.raises(NotPublic):
        asyncio.run(checked_address("receiver.example", network=Network(look_up=mixed)))


def test_name__without_an_address_may_work_later():
    async def unknown(host: str) -> Sequence[str]:
        raise OSError("no such name")

    with pytest.raises(NoResponse) as failed:
        run(one(Request(method="POST", url="https://receiver.example/", body=b"")), network=Network(look_up=unknown))

    assert failed.value.retryable


class Counting(StandIn):
    """Answers everything, and counts."""

    def answer(self, seen):
        return Answer(status=204)


@pytest.fixture
def inside() -> Iterator[Counting]:
    with Counting().running() as running:
        yield running


def test_name__S2_that_leads_inside_is_not_called_and_nothing_is_sent(inside: Counting):
    port = inside.url.rpartition(":")[2]

    async def rebound(host: str) -> Sequence[str]:
        return ["127.0.0.1"]

    for url in (f"https://receiver.example:{port}/", "https://receiver.example/", f"http://receiver.example:{port}/"):
        with pytest.raises(NotPublic):
            run(one(Request(method="POST", url=url, body=b"secret")), network=Network(look_up=rebound))
    with pytest.raises(NotPublic):
        run(one(Request(method="POST", url=inside.url, body=b"secret")))

    assert inside.log == []


def test_name__S2_is_resolved_once_and_the_address_that_was_looked_at_is_called(
    tls: tuple[ThreadingHTTPServer, ssl.SSLContext, list[tuple[str, str | None]]],
):
    """The name answers with a public address first and an inner one later; the certificate is the name's."""
    server, context, seen = tls
    asked: list[str] = []

    async def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    # What stands for the public internet here is this machine's own address.
    port = server.server_address[1]
    network = Network(look_up=rebinding, is_public=lambda address: address == "127.0.0.1", https_port=port)
    url = f"https://receiver.example:{port}/hook"

    answer = run(one(Request(method="POST", url=url, body=b"x")), network=network, verify=context)

    assert answer.did == ("204",)
    assert asked == ["receiver.example"]
    assert seen == [(f"receiver.example:{server.server_address[1]}", "receiver.example")]  # Host, and the name of TLS


def test_name__a_certificate_of_another_name_is_refused(
    tls: tuple[ThreadingHTTPServer, ssl.SSLContext, list[tuple[str, str | None]]],
):
    server, context, seen = tls

    async def here(host: str) -> Sequence[str]:
        return ["127.0.0.1"]

    port = server.server_address[1]
    network = Network(look_up=here, is_public=lambda _: True, https_port=port)

    request = Request(method="POST", url=f"https://other.example:{port}/hook", body=b"x")
    with pytest.raises(NoResponse):
        run(one(request), network=network, verify=context)

    assert seen == []


def test_redirect__S3_is_not_followed(inside: Counting):
    with Counting().running() as front:
        front.faults = [
            Fault(answer=Answer(status=status, headers={"Location": inside.url + "/x"})) for status in (301, 307)
        ]
        said = [run(one(Request(method="POST", url=front.url, body=b"")), allowed=front.url).did for _ in range(2)]

    assert said == [("301",), ("307",)]
    assert inside.log == []


def test_allowed_origin__is_exact(inside: Counting):
    port = inside.url.rpartition(":")[2]

    assert run(one(Request(method="POST", url=inside.url + "/x", body=b"")), allowed=inside.url).did == ("204",)
    for other in (f"http://localhost:{port}", f"https://127.0.0.1:{port}", "http://127.0.0.1:1"):
        with pytest.raises(NotPublic):
            run(one(Request(method="POST", url=other + "/x", body=b"")), allowed=inside.url)


def test_answer__S5_that_never_ends_or_is_slow_frees_the_slot(inside: Counting):
    inside.faults = [Fault(answer=Answer(status=200), endless=True)]
    with pytest.raises(NoResponse, match="more than 65,536 bytes"):
        run(one(Request(method="POST", url=inside.url, body=b"")), allowed=inside.url)

    inside.faults = [Fault(answer=Answer(status=200), delay_seconds=0.6)]
    with pytest.raises(NoResponse):
        run(one(Request(method="POST", url=inside.url, body=b"", timeout_seconds=0.2)), allowed=inside.url)

    assert Request(method="POST", url="x").timeout_seconds == 10.0


def test_proxy__S9_of_the_environment_is_ignored(inside: Counting, monkeypatch: pytest.MonkeyPatch):
    with Counting().running() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("no_proxy", "")

        run(one(Request(method="POST", url=inside.url, body=b"")), allowed=inside.url)

        assert (len(inside.log), proxy.log) == (1, [])


def one(request: Request) -> Messages:
    """A notifier of one request, whose receipt is the status."""
    response = yield request
    return Receipt(did=(str(response.status),))


def run(
    messages: Messages,
    *,
    allowed: str | None = None,
    network: Network = INTERNET,
    verify: ssl.SSLContext | None = None,
) -> Receipt:
    async def act() -> Receipt:
        origins = frozenset({allowed} if allowed else ())
        async with public_client(allowed_origins=origins, network=network, verify=verify) as client:
            return await post(messages, client=client, patience=ONE_TRY)

    return asyncio.run(act())


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[ThreadingHTTPServer, ssl.SSLContext, list[tuple[str, str | None]]]]:
    """A server with a certificate for receiver.example, who trusts it, and each request's Host and TLS name."""
    seen: list[tuple[str, str | None]] = []
    names: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.headers["host"], names[-1]))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    certificate, key = self_signed(tmp_path, "receiver.example")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a handshake that fails is what a test wants
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    yield server, ssl.create_default_context(cafile=str(certificate)), seen
    server.shutdown()
    thread.join(5)
    with contextlib.suppress(OSError):
        server.server_close()


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Files of a certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def test_literal_addresses__of_the_public_internet_are_no_names_either():
    with pytest.raises(InvalidTarget):
        checked_url(f"https://{ipaddress.ip_address('93.184.216.34')}/")
    assert httpx.URL("https://receiver.example/").copy_with(host="2606:4700::1111").netloc == b"[2606:4700::1111]"
