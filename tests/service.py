"""A whole service as real processes: one API, one worker, a database. Tests make their own accounts on it."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import httpx

from server.services.accounts import create_account, set_caps
from server.services.identity import issue_token
from tests.databases import OpenConnection

JWT_SECRET = "a secret for tests alone, 32 bytes or more"

SECRET_KEY = "another secret for tests alone"

# The service speaks plain HTTP, and to read all certificate authorities takes a client of each test 50 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

# A start takes two seconds of a processor, and many times that where other work fills the machine.
START_SECONDS = 90

CATALOGUE = """
default: echo
models:
  echo:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-1, free: true}]
  slow:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-slow, free: true, options: {latency_ms: 400}}]
  priced:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-priced, price: {input: 1000, output: 2000}}]
  broken:
    context_tokens: 100000
    deployments: [{backend: echo, model: echo-broken, free: true, options: {fail_first: 1000000}}]
  keyed:
    context_tokens: 100000
    deployments: [{backend: litellm, model: openai/keyed, key_variable: NO_SUCH_KEY, free: true}]
"""


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account of a test, with a client that carries its token."""

    username: str
    id: uuid.UUID
    token: str
    client: httpx.Client


@dataclass(frozen=True, kw_only=True)
class Service:
    """Where the processes are."""

    url: str
    dsn: str
    redis_url: str
    api_pid: int
    worker_pid: int
    folder: Path
    environment: dict[str, str]  # of its processes
    clients: list[httpx.Client]
    database: OpenConnection

    def visitor(self) -> httpx.Client:
        """A client without a token; closed with the service at the latest."""
        client = httpx.Client(base_url=self.url, timeout=15, trust_env=False, verify=NO_TLS)
        self.clients.append(client)
        return client

    def an_account(self, *, tier: str = "plus", is_admin: bool = False, money_usd: float | None = 1000) -> Account:
        """A new account with its token, and money for the catalogue's steep prices (None: its tier's)."""
        username = f"user-{uuid.uuid4().hex[:10]}"

        async def make() -> tuple[uuid.UUID, str]:
            pool = await asyncpg.create_pool(self.dsn, min_size=0, max_size=1)
            try:
                account = await create_account(pool, username, tier=tier, is_admin=is_admin)
                await set_caps(pool, username, per_job_usd=money_usd, per_month_usd=money_usd)
                return account.id, (await issue_token(pool, username, name="test")).token
            finally:
                await pool.close()

        account_id, token = in_loop(make())
        client = self.visitor()
        client.headers["Authorization"] = f"Bearer {token}"
        return Account(username=username, id=account_id, token=token, client=client)

    def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """Rows of the service's database."""
        return self.database.fetch(statement, *values)


def in_loop(coroutine):
    """What the coroutine answers, from a loop of its own that leaves pytest's alone."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def start_service(*, dsn: str, redis_url: str, folder: Path, **settings: str) -> Iterator[Service]:
    """Start, yield when ready, stop. `settings` are further variables of the processes' environment."""
    port = free_port()
    (folder / "catalogue.yaml").write_text(CATALOGUE)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PRPM_", "ANTHROPIC", "OPENAI"))},
        "PRPM_DATABASE_URL": dsn,
        "PRPM_REDIS_URL": redis_url,
        "PRPM_PORT": str(port),
        "PRPM_JWT_SECRET": JWT_SECRET,
        "PRPM_SECRET_KEY": SECRET_KEY,
        "PRPM_CATALOGUE": str(folder / "catalogue.yaml"),
        "PRPM_PUBLIC_URL": f"http://127.0.0.1:{port}",
        "PRPM_GUESSES_PER_MINUTE": "100000",  # many tests send bad tokens, all from one address
        "PRPM_CACHE_DAYS": "0",  # what a test submits is run, also the second time
        **settings,
    }
    api = start_process("api", environment, folder)
    worker = start_process("worker", environment, folder)
    service = Service(
        url=f"http://127.0.0.1:{port}",
        dsn=dsn,
        redis_url=redis_url,
        api_pid=api.pid,
        worker_pid=worker.pid,
        folder=folder,
        environment=environment,
        clients=[],
        database=OpenConnection(dsn),
    )
    try:
        wait_until_ready(service, [api, worker])
        yield service
    finally:
        for client in service.clients:
            client.close()
        service.database.close()
        for process in (worker, api):
            process.terminate()
        for process in (worker, api):
            process.wait(10)


def start_process(command: str, environment: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """One process of the service, its log in the folder."""
    with (folder / f"{command}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "server.operator.main", command], env=environment, stdout=log, stderr=log
        )


def wait_until_ready(service: Service, processes: list[subprocess.Popen[bytes]]) -> None:
    """It answers. A process that ends is told at once, with its log; the limit is for a loaded machine."""
    deadline = time.monotonic() + START_SECONDS
    with service.visitor() as client:
        while time.monotonic() < deadline:
            for process in processes:
                assert process.poll() is None, "\n".join(log.read_text() for log in service.folder.glob("*.log"))
            try:
                if client.get("/health/ready").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("\n".join(log.read_text() for log in service.folder.glob("*.log")))


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def finished_job(account: Account, job_id: str, *, seconds: float = 15) -> dict:
    """The job once it is completed or failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        job = account.client.get(f"/api/v1/test-jobs/{job_id}").json()
        if job["status"] in ("completed", "failed"):
            return job
        time.sleep(0.02)
    raise AssertionError(f"still {job}")
