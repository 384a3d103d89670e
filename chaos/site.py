"""The service as real processes on servers of its own, and everything that can be done to it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from uuid import UUID

import asyncpg
import redis.asyncio
from msgspec import Struct

from chaos.model import CountingModel
from chaos.programs import Program, find_faketime
from chaos.proxy import DatabaseProxy
from evals.archives import pack
from server.embedded import EmbeddedPostgres, EmbeddedValkey, start_postgres, start_valkey
from server.embedded.postgres import begin_postgres
from server.operator.stack import answers, usable_port
from server.services.accounts import create_account
from server.services.identity import issue_token
from server.services.publishing import publish_package
from server.store.accounts import read_caller_by_id
from server.store.migrations import migrate

ROOT = Path(__file__).resolve().parents[1]
AUDIT = Path(__file__).with_name("audit.sql")
READY_SECONDS = 60.0
PACKAGE_NAME = "@chaos/package"
# A call costs 20 millionths of a dollar: what all of a storm's cost stays far below every cap.
PRICE = "{input: 1, output: 2}"
PACKAGE = {
    "prpm.json": b'{"name": "package", "version": "1.0.0", "description": "A rule.", "format": "claude", '
    b'"subtype": "rule", "files": ["rule.md"]}',
    "rule.md": b"Answer the question.\n",
}


class SiteOptions(Struct, frozen=True, kw_only=True):
    """How the service is set up. `has_proxy`: the service reaches PostgreSQL through the proxy."""

    workers: int = 3
    lease_seconds: int = 3
    worker_jobs: int = 10
    job_concurrency: int = 3
    worker_module: tuple[str, ...] = ("server.operator.main", "worker")
    has_proxy: bool = True
    runs_per_month: int | None = None  # of the plus tier; None: as it is sold
    settings: Mapping[str, str] = {}  # further variables of its processes


class Account(Struct, frozen=True, kw_only=True):
    """Who submits."""

    id: UUID
    tier: str
    token: str


class Site:
    """One service. `open_site` makes it; the event loop must run in the main thread."""

    def __init__(
        self,
        options: SiteOptions,
        *,
        folder: Path,
        postgres: EmbeddedPostgres,
        valkey: EmbeddedValkey,
        proxy: DatabaseProxy,
        model: CountingModel,
        model_url: str,
    ) -> None:
        self.options = options
        self.folder = folder
        self.is_kept = False
        self.proxy = proxy
        self.model = model
        self.dsn = postgres.dsn  # not through the proxy: what the harness itself asks
        self._postgres = postgres
        self._valkey = valkey
        self.port = usable_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.port}"
        self._model_url = model_url
        self._faketime = find_faketime()
        self.api = self._program("api", "server.operator.main", "api")
        self.workers = [self._program(f"worker-{number}", *options.worker_module) for number in range(options.workers)]

    def _program(self, name: str, *arguments: str) -> Program:
        environ = self._environment(self.proxy.dsn(name) if self.options.has_proxy else self.dsn)
        return Program(name, *arguments, environ=environ, folder=self.folder, faketime=self._faketime)

    def _environment(self, dsn: str) -> dict[str, str]:
        catalogue = self.folder / "catalogue.yaml"
        deployment = f"{{backend: openai_compatible, model: counting, base_url: '{self._model_url}', price: {PRICE}}}"
        catalogue.write_text(
            f"default: counting\nmodels:\n  counting:\n    context_tokens: 100000\n    deployments: [{deployment}]\n"
        )
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
        return kept | {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PRPM_DATABASE_URL": dsn,
            "PRPM_REDIS_URL": self._valkey.url,
            "PRPM_PORT": str(self.port),
            "PRPM_CATALOGUE": str(catalogue),
            "PRPM_LEASE_SECONDS": str(self.options.lease_seconds),
            "PRPM_WORKER_JOBS": str(self.options.worker_jobs),
            "PRPM_JOB_CONCURRENCY": str(self.options.job_concurrency),
            **self.options.settings,
        }

    @property
    def programs(self) -> list[Program]:
        """The API and the workers."""
        return [self.api, *self.workers]

    async def prepare(self) -> None:
        """Schema, audit and package are there."""
        await migrate(self.dsn)
        async with asyncpg.create_pool(self.dsn, min_size=0, max_size=2) as db:
            await db.execute(AUDIT.read_text())
            if self.options.runs_per_month is not None:
                await db.execute(
                    "UPDATE tiers SET runs_per_month = $1 WHERE name = 'plus'", self.options.runs_per_month
                )
            owner = await create_account(db, "chaos", tier="enterprise")
            caller = await read_caller_by_id(db, owner.id)
            assert caller is not None
            await publish_package(db, caller, archive=pack(PACKAGE), publish_as=PACKAGE_NAME)

    async def add_accounts(self, *tiers: str) -> list[Account]:
        """One new account a tier named."""
        async with asyncpg.create_pool(self.dsn, min_size=0, max_size=2) as db:
            made = []
            for tier in tiers:
                known = await db.fetchval("SELECT COUNT(*) FROM users")
                account = await create_account(db, f"{tier}-{known}", tier=tier)
                token = (await issue_token(db, account.username, name="chaos")).token
                made.append(Account(id=account.id, tier=tier, token=token))
            return made

    async def start(self) -> None:
        """Everything answers. Raises RuntimeError."""
        for program in self.programs:
            await self.proxy.open(program.name)
            program.start()
        await self.wait_until_ready()

    async def wait_until_ready(self) -> None:
        """The API answers and a worker claims. Raises RuntimeError."""
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while not await asyncio.to_thread(answers, "127.0.0.1", self.port, "/health/ready"):
            if asyncio.get_running_loop().time() > deadline:
                raise RuntimeError(f"The service is not ready after {READY_SECONDS:.0f} s. Its logs: {self.folder}")
            await asyncio.sleep(0.1)

    async def heal(self) -> None:
        """Every process runs, with the right clock, and nothing is paused."""
        self.proxy.resume_all()
        for program in self.programs:
            program.send(signal.SIGCONT)
            if not program.is_running:
                program.start()
        self.wake_valkey()
        await self.wait_until_ready()

    async def flush_redis(self) -> None:
        """FLUSHALL."""
        async with redis.asyncio.Redis.from_url(self._valkey.url, socket_timeout=5) as client:
            await client.flushall()

    async def redis_messages(self) -> list[bytes]:
        """Every task that waits in Redis, as it is stored."""
        async with redis.asyncio.Redis.from_url(self._valkey.url, socket_timeout=5) as client:
            keys = [key async for key in client.scan_iter("arq:job:*")]
            return [value for key in keys if (value := await client.get(key)) is not None]

    async def count_wakeups(self) -> int:
        """How many wake-ups nobody has taken."""
        async with redis.asyncio.Redis.from_url(self._valkey.url, socket_timeout=5) as client:
            return int(await client.zcard("arq:queue"))

    def kill_valkey(self) -> None:
        """kill -9; its append-only file stays."""
        assert self._valkey.pid is not None
        os.kill(self._valkey.pid, signal.SIGKILL)
        while self._valkey.exit_code() is None:
            pass

    async def start_valkey(self) -> None:
        """It answers again, with what its file holds."""
        self._valkey.begin()
        await asyncio.to_thread(self._valkey.wait_until_ready)

    def freeze_valkey(self) -> None:
        """It accepts connections and answers nothing."""
        assert self._valkey.pid is not None
        os.kill(self._valkey.pid, signal.SIGSTOP)

    def wake_valkey(self) -> None:
        """It goes on. Safe to call when it was not frozen."""
        if self._valkey.pid is not None:
            os.kill(self._valkey.pid, signal.SIGCONT)

    async def crash_postgres(self) -> None:
        """`immediate` shutdown: no checkpoint, connections cut; the next start recovers from the log."""
        assert self._postgres.pid is not None
        os.kill(self._postgres.pid, signal.SIGQUIT)
        while self._postgres.exit_code() is None:
            await asyncio.sleep(0.01)

    async def start_postgres(self) -> None:
        """It accepts connections again."""
        self._postgres.stop()  # gives the folder free
        self._postgres = begin_postgres(self.folder / "pg")
        await asyncio.to_thread(self._postgres.wait_until_ready)

    def close(self) -> None:
        """No process is left."""
        for program in self.programs:
            program.kill()
        self._valkey.stop()
        self._postgres.stop()


@contextlib.asynccontextmanager
async def open_site(options: SiteOptions) -> AsyncIterator[Site]:
    """A service that is ready. Its folder is removed, unless an exception goes through here or `is_kept` was set."""
    folder = Path(tempfile.mkdtemp(prefix="prpm-chaos-"))
    folder.chmod(0o711)  # the database's own user has to pass
    async with contextlib.AsyncExitStack() as stack:
        postgres = start_postgres(folder / "pg")
        stack.callback(postgres.stop)
        valkey = start_valkey(folder / "valkey")
        stack.callback(valkey.stop)
        proxy = DatabaseProxy(folder / "proxy", upstream=folder / "pg")
        stack.push_async_callback(proxy.aclose)
        model = CountingModel()
        stack.push_async_callback(model.aclose)
        site = Site(
            options, folder=folder, postgres=postgres, valkey=valkey, proxy=proxy, model=model,
            model_url=await model.start(),
        )  # fmt: skip
        stack.callback(site.close)
        await site.prepare()
        await site.start()
        yield site
    if not site.is_kept:
        shutil.rmtree(folder, ignore_errors=True)
