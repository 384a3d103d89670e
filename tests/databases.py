"""Databases for tests, made through one connection, and the folder that makes them cheap."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import uuid
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import psutil

# A copied database is 10 MB in 500 files. In memory one takes 30 ms of a processor, on a disk five times as much.
MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder of random name and our own is made in it
PREFIX = "prpm-tests-"  # and the number of the process
# Each of some processes holds a handful of databases at a time; containers often have 64 MB here.
ENOUGH_BYTES = 1_500_000_000


def folder_for_servers(memory: Path = MEMORY) -> Path:
    """A new folder, in memory where there is enough, with a short path: a socket's has a limit of 107 bytes."""
    _remove_leftovers(memory)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=memory if _has_room(memory) else None))


def _remove_leftovers(parent: Path) -> None:
    """What runs that were killed have left, as it takes memory until the machine starts anew."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _has_room(folder: Path) -> bool:
    # What TMPDIR says is where the user wants files.
    if "TMPDIR" in os.environ or not os.access(folder, os.W_OK | os.X_OK):
        return False
    return min(shutil.disk_usage(folder).free, psutil.virtual_memory().available) > ENOUGH_BYTES


def with_database(dsn: str, name: str) -> str:
    """The same server, another database."""
    parts = urlsplit(dsn)
    return urlunsplit(parts._replace(path=f"/{name}"))


class OpenConnection:
    """A connection to one database that stays open between questions; made anew when it is lost.

    For any thread, outside of event loops; has a loop of its own.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: asyncpg.Connection | None = None

    def fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        """The rows."""
        with self._lock:
            self._loop = self._loop or asyncio.new_event_loop()
            return self._loop.run_until_complete(self._fetch(statement, *values))

    def close(self) -> None:
        """Nothing is open any more."""
        with self._lock:
            if self._loop is not None:
                if self._connection is not None:
                    self._connection.terminate()
                # What is told at the end of a connection is told in the loop.
                self._loop.run_until_complete(asyncio.sleep(0))
                self._loop.close()
                self._loop = self._connection = None

    async def _fetch(self, statement: str, *values: object) -> list[asyncpg.Record]:
        if self._connection is not None and not self._connection.is_closed():
            # One that a restart has ended is not known as closed before it is used.
            with contextlib.suppress(OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
                return await self._connection.fetch(statement, *values)
        self._connection = await asyncpg.connect(self._dsn)
        return await self._connection.fetch(statement, *values)


class Databases:
    """Databases of one server. Used outside of event loops only; has one of its own."""

    def __init__(self, admin_dsn: str, *, strategy: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._dsn = admin_dsn
        self._strategy = strategy
        self._connection: asyncpg.Connection = self._loop.run_until_complete(asyncpg.connect(admin_dsn))

    def copy(self, template_dsn: str) -> str:
        """The address of a copy of a database that nobody is connected to."""
        name = f"prpm_test_{uuid.uuid4().hex[:12]}"
        template = urlsplit(template_dsn).path.lstrip("/")
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY {self._strategy}')
        return with_database(self._dsn, name)

    def drop(self, dsn: str) -> None:
        """It is gone, whoever is connected."""
        self._execute(f'DROP DATABASE "{urlsplit(dsn).path.lstrip("/")}" WITH (FORCE)')

    def close(self) -> None:
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def _execute(self, statement: str) -> None:
        self._loop.run_until_complete(self._connection.execute(statement))
