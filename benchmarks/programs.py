"""Starts what is measured: programs of ours as processes, in an environment without the developer's settings."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PATIENCE_SECONDS = 30.0


def environment(**ours: str) -> dict[str, str]:
    """What a program needs to start, and `ours`."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **ours}


def catalogue(folder: Path, *, models: int) -> Path:
    """A models file whose models, echo-0 and so on, answer at once with what they were told."""
    path = folder / "catalogue.yaml"
    lines = ["default: echo-0", "models:"]
    for number in range(models):
        deployment = f"{{backend: echo, model: echo-{number}, free: true}}"
        lines += [f"  echo-{number}:", "    context_tokens: 100000", f"    deployments: [{deployment}]"]
    path.write_text("\n".join(lines) + "\n")
    return path


@contextlib.contextmanager
def running(*arguments: str, environ: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """`python ARGUMENTS` with its output as a pipe; it gets SIGTERM on the way out, and SIGKILL after 10 s."""
    with log.open("ab") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments], env=environ, text=True, stdout=subprocess.PIPE, stderr=errors
        )
    with process:
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[str]) -> None:
    """The process has ended. Safe to call twice."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_until_ready(process: subprocess.Popen[str], *, port: int, path: str, log: Path) -> None:
    """`path` is answered, with 200 or, as on a server without that path, 404. Raises RuntimeError with the log."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if status(port, path) in (200, 404):
                return
        time.sleep(0.02)
    raise RuntimeError(f"{process.args!r} does not get ready:\n{log.read_text()}")


def status(port: int, path: str) -> int:
    """The status of a GET."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
