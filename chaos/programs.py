"""A process of the service that can be killed, paused, asked to stop, and started again with another clock."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from server.embedded.processes import spawn

FAKETIME_ADVICE = "faketime is not installed. On Debian and Ubuntu: apt-get install faketime"


class ToolMissing(Exception):
    """A program that the harness needs is not there; the message says how to get it."""


def find_faketime() -> str:
    """The library that the `faketime` command loads into others. Raises ToolMissing."""
    if shutil.which("faketime") is None or shutil.which("printenv") is None:
        raise ToolMissing(FAKETIME_ADVICE)
    # The command itself is no use here: it forks, so that a kill would hit it and not the service.
    command = ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"]
    library = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 (ours)
    if not library:
        raise ToolMissing(FAKETIME_ADVICE)
    return library


class Program:
    """`python -m MODULE ARGUMENTS`, one log file a start. Main thread only (see `spawn`)."""

    def __init__(self, name: str, *arguments: str, environ: Mapping[str, str], folder: Path, faketime: str) -> None:
        self.name = name
        self._arguments = arguments
        self._environ = environ
        self._folder = folder
        self._faketime = faketime
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Paused counts as running."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, skew_seconds: int = 0) -> None:
        """It is on its way, its wall clock wrong by `skew_seconds`."""
        self._starts += 1
        environ = dict(self._environ)
        if skew_seconds:
            # Only the wall clock: no machine's monotonic clock jumps.
            environ |= {
                "LD_PRELOAD": self._faketime,
                "FAKETIME": f"{skew_seconds:+d}s",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
                "DONT_FAKE_MONOTONIC": "1",
            }
        self._process = spawn(
            [sys.executable, "-P", "-m", *self._arguments],
            death_signal=signal.SIGKILL,
            log=self._folder / f"{self.name}.{self._starts:03d}.log",
            environment=environ,
        )

    def kill(self) -> None:
        """It is gone, without a chance to say so. Safe to call twice."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _remove_shared_clock(self._process.pid)

    def send(self, number: signal.Signals) -> None:
        """A signal, if it still runs."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def logs(self) -> list[Path]:
        """One file a start, oldest first."""
        return sorted(self._folder.glob(f"{self.name}.*.log"))


def _remove_shared_clock(pid: int) -> None:
    """What faketime shares with the children of a process outlives a kill; there is no setting to leave it out."""
    for name in (f"faketime_shm_{pid}", f"sem.faketime_sem_{pid}"):
        Path("/dev/shm", name).unlink(missing_ok=True)  # noqa: S108 (names that the library chose)
