"""TLS with an authority of our own, and an HTTP proxy, as networks of companies have them."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.standins.web import StandIn, _handler_of


@contextmanager
def tls_front(service: StandIn, folder: Path, *, host: str) -> Iterator[int]:
    """The stand-in behind TLS, with a certificate of an authority of our own in authority.pem. Gives its port."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "authority.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(private + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    server = QuietServer(("127.0.0.1", 0), _handler_of(service))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with served(server):
        yield server.server_address[1]


class QuietServer(ThreadingHTTPServer):
    """A client that does not trust us is the point of a test, and nothing to print."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join(5)
        server.server_close()


class Proxy:
    """An HTTP proxy that knows CONNECT and some names."""

    def __init__(self, names: dict[str, int]) -> None:
        self.names = names
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=(client,), daemon=True).start()

    def carry(self, client: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(4096)
        name = head.split()[1].decode()
        self.asked.append(name)
        with client, socket.create_connection(("127.0.0.1", self.names[name])) as server:
            client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            while True:
                ready, _, _ = select.select([client, server], [], [], 20)
                for one in ready:
                    try:
                        data = one.recv(65536)
                        (server if one is client else client).sendall(data)
                    except OSError:
                        return
                    if not data:
                        return
                if not ready:
                    return


@contextmanager
def connect_proxy(names: dict[str, int]) -> Iterator[Proxy]:
    proxy = Proxy(names)
    thread = threading.Thread(target=proxy.serve, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.listener.shutdown(socket.SHUT_RDWR)
        proxy.listener.close()
        thread.join(5)
