"""The folder of an embedded server: writable, ours alone, and with a socket path that is short enough."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from server.embedded.processes import CannotStart, FolderInUse, Identity

# sun_path holds 108 bytes, the last of them NUL: https://man7.org/linux/man-pages/man7/unix.7.html
SOCKET_PATH_BYTES = 107
NOTE = "socket-folder"
LARGE_LOG_BYTES = 4_000_000


def make_folder(folder: Path) -> Path:
    """`folder`, made if it is missing, absolute. Raises CannotStart.

    Others may pass through a folder of root's, as the servers run as somebody else; what is secret in it is
    0600.
    """
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise CannotStart(cannot_write(folder, error)) from error
    return folder


class FolderLock:
    """Holds `folder` for this process until `release`. Raises FolderInUse when another process has it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise CannotStart(cannot_write(folder, error)) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._descriptor, 32).decode("ascii", "replace").strip()
            self.release()
            raise FolderInUse(
                f"{folder} is in use by process {holder or 'unknown'}. Stop that one first, or choose "
                "another folder with --data-dir."
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.write(self._descriptor, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        """Another process may take the folder. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def cannot_write(folder: Path, error: OSError) -> str:
    """The sentence for a data folder that cannot be used."""
    return f"Cannot write to {folder}: {error.strerror}. Choose another folder with --data-dir or PRPM_DATA_DIR."


class SocketFolder:
    """Where a server puts its socket: `folder` itself, or a short one below the system's temporary folder.

    The short one is remembered in `folder`, so that the next start removes what a killed process has left.
    """

    def __init__(self, folder: Path, *, socket_name: str) -> None:
        self._note = folder / NOTE
        self._remove_short()
        self.path = folder
        if len(os.fsencode(folder / socket_name)) > SOCKET_PATH_BYTES:
            self.path = Path(tempfile.mkdtemp(prefix="prpm-"))
            self._note.write_text(str(self.path))

    def hand_over(self, identity: Identity) -> None:
        """The server's identity may make the socket there."""
        if os.geteuid() == 0:
            os.chown(self.path, *identity.owner)

    def _remove_short(self) -> None:
        if self._note.is_file():
            shutil.rmtree(self._note.read_text(), ignore_errors=True)
            self._note.unlink()

    def remove(self) -> None:
        """The short folder, if there was one, is gone. Safe to call twice."""
        self._remove_short()


def noted_socket_folder(folder: Path) -> Path:
    """Where the server of `folder` has its socket, as another process sees it."""
    try:
        return Path((folder / NOTE).read_text())
    except OSError:
        return folder


def open_log(folder: Path) -> Path:
    """The log file of a server; a large one of the past is moved aside."""
    log = folder / "log"
    if log.is_file() and log.stat().st_size > LARGE_LOG_BYTES:
        log.replace(folder / "log.old")
    return log
