"""The service as one tree of processes: PostgreSQL, Valkey, API, worker and, without a key, a small model.

Everything that takes time is begun at once; the API and the worker wait by themselves until the schema is
there. Nothing survives this process, however it ends: every child asks the kernel for a death signal.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from server.embedded import CannotStart, EmbeddedPostgres, EmbeddedValkey, begin_postgres, begin_valkey
from server.embedded.folders import FolderLock, make_folder
from server.embedded.postgres import running_dsn
from server.embedded.processes import signals_held_back, spawn, stop, tail
from server.operator.errors import OperatorError
from server.operator.model_source import ModelSource, choose_model

READY_SECONDS = 60.0
POLL_SECONDS = 0.02
# A worker that lived this long was well: its next restart is at once again.
WELL_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0
DIED = 1


class StackOptions(Struct, frozen=True, kw_only=True):
    """What may be chosen. `port` 0 means a free one; `environ` is the operator's environment."""

    data_dir: Path
    environ: Mapping[str, str]
    port: int = 0
    host: str = "127.0.0.1"
    public_url: str | None = None


class Ready(Struct, frozen=True, kw_only=True):
    """A running stack. `token` is None on an external database: no account is made there."""

    url: str
    token: str | None
    model: ModelSource
    initdb_seconds: float | None


class Child:
    """One program of ours, started anew after `begin` whenever it is asked to."""

    def __init__(self, name: str, arguments: list[str], *, environ: Mapping[str, str], logs: Path) -> None:
        self.name = name
        self.log = logs / f"{name}.log"
        self._arguments = arguments
        self._environ = environ
        self._process: subprocess.Popen[bytes] | None = None
        self.began_at = 0.0
        if self.log.is_file():
            self.log.replace(self.log.with_suffix(".log.old"))

    def begin(self) -> None:
        """It is on its way. It dies with us at once: what it was doing is taken up after the next start."""
        self.began_at = time.monotonic()
        # A request to stop waits until we know the child: else `stop` would leave it to its death signal.
        with signals_held_back():
            self._process = spawn(
                # -P: a folder named `server` where the operator happens to stand is not ours.
                [sys.executable, "-P", "-m", "server.operator.main", *self._arguments],
                death_signal=signal.SIGKILL,
                log=self.log,
                environment=self._environ,
                folder=str(Path.cwd()),  # relative paths of the operator's settings keep their meaning
            )

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll() if self._process else None

    def ask_to_stop(self) -> None:
        """SIGTERM is sent; `stop` waits."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, *, seconds: float) -> None:
        """It has ended, killed after `seconds` if need be. Safe to call twice."""
        if self._process:
            stop(self._process, (signal.SIGTERM, max(0.0, seconds)))


class Stack:
    """`start`, then `check` again and again, then `stop`. Main thread only (see `spawn`)."""

    def __init__(self, options: StackOptions, *, say: Callable[[str], None]) -> None:
        self._options = options
        self._say = say
        self._lock: FolderLock | None = None
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._model: Child | None = None
        self._model_port: int | None = None
        self._api: Child | None = None
        self._worker: Child | None = None
        self._restart_worker_at: float | None = None
        self._pause_seconds = FIRST_PAUSE_SECONDS
        self._was_ready = False

    def start(self) -> Ready:
        """Everything answers and a worker claims. Raises OperatorError or CannotStart; then call `stop`."""
        options = self._options
        port = usable_port(options.host, options.port) if options.port else 0
        folder = make_folder(options.data_dir)
        self._lock = FolderLock(folder)
        port = port or remembered_port(options.host, folder / "port")
        logs = make_folder(folder / "logs")
        database_url, redis_url = self._begin_servers(folder)
        url = f"http://{reachable(options.host)}:{port}"
        model = choose_model(options.environ, free_port=lambda: usable_port("127.0.0.1", 0))
        environ = {
            **options.environ,
            **kept_secrets(folder),
            **{name: options.environ[name] for name in SECRET_NAMES if options.environ.get(name)},
            "PRPM_DATABASE_URL": database_url,
            "PRPM_REDIS_URL": redis_url,
            "PRPM_DATA_DIR": str(folder),
            "PRPM_HOST": options.host,
            "PRPM_PORT": str(port),
            "PRPM_PUBLIC_URL": options.public_url or options.environ.get("PRPM_PUBLIC_URL") or url,
            # Found from any working folder, installed or not.
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), options.environ.get("PYTHONPATH", "")])),
            "PYTHONUNBUFFERED": "1",
        }
        self._begin_programs(environ, model=model, logs=logs)
        token = self._prepare_database(database_url, token_path=folder / "token")
        self._wait_until_ready(options.host, port)
        self._was_ready = True
        write_private(folder / URL_FILE, environ["PRPM_PUBLIC_URL"])
        initdb_seconds = self._postgres.initdb_seconds if self._postgres else None
        return Ready(url=environ["PRPM_PUBLIC_URL"], token=token, model=model, initdb_seconds=initdb_seconds)

    def check(self) -> None:
        """One look at every child. A dead worker is started again after a pause; any other ends the stack.

        Raises OperatorError with exit code 1 and the last lines of the log.
        """
        for name, child in (
            ("The API", self._api), ("The demo model", self._model),
            ("PostgreSQL", self._postgres), ("Valkey", self._valkey),
        ):  # fmt: skip
            if child and (code := child.exit_code()) is not None:
                raise died(name, code=code, log=child.log)
        self._look_after_worker()

    def stop(self) -> None:
        """No process is left and the folder is free. At most 5 s; safe to call twice.

        The API and the worker go first, so that what they finish still finds the database.
        """
        for child in (self._api, self._worker):
            if child:
                child.ask_to_stop()
        deadline = time.monotonic() + 2.0
        for child in (self._api, self._worker):
            if child:
                child.stop(seconds=deadline - time.monotonic())
        if self._model:
            self._model.stop(seconds=0.5)
        if self._valkey:
            self._valkey.stop()
        if self._postgres:
            self._postgres.stop()
        if self._lock:
            self._lock.release()

    def _begin_servers(self, folder: Path) -> tuple[str, str]:
        """The addresses of database and Redis, given or about to answer."""
        database_url = self._options.environ.get("PRPM_DATABASE_URL", "").strip()
        redis_url = self._options.environ.get("PRPM_REDIS_URL", "").strip()
        if not database_url:
            self._postgres = begin_postgres(folder / "postgres")
            database_url = self._postgres.dsn
        if not redis_url:
            self._valkey = begin_valkey(folder / "valkey")
            redis_url = self._valkey.url
        return database_url, redis_url

    def _begin_programs(self, environ: Mapping[str, str], *, model: ModelSource, logs: Path) -> None:
        # The worker calls the vendors; the process that the world talks to has no use for their keys.
        without_keys = {name: value for name, value in environ.items() if name not in model.key_variables}
        for_worker = dict(environ)
        if model.demo_port:
            for_worker["PRPM_DEMO_MODEL_URL"] = f"http://127.0.0.1:{model.demo_port}/v1"
            arguments = ["demo-model", "serve", "--port", str(model.demo_port)]
            self._model = Child("model", arguments, environ=without_keys, logs=logs)
            self._model.begin()
            self._model_port = model.demo_port
        self._api = Child("api", ["api"], environ=without_keys, logs=logs)
        self._worker = Child("worker", ["worker"], environ=for_worker, logs=logs)
        self._api.begin()
        self._worker.begin()

    def _prepare_database(self, dsn: str, *, token_path: Path) -> str | None:
        """The schema is there, and in our own database a demo account with the examples; its token."""
        # Loaded here, while initdb and the programs work.
        import asyncio

        from server.store.migrations import migrate

        seeds = self._seeds(token_path)
        if seeds:
            import server.services.demo
        if self._postgres:
            self._postgres.wait_until_ready()
        if self._valkey:
            self._valkey.wait_until_ready()
        # A pooler would break the migrations' lock.
        asyncio.run(migrate(self._options.environ.get("PRPM_DATABASE_DIRECT_URL", "").strip() or dsn))
        if self._postgres is None:
            return None
        if seeds:
            examples = find_examples()
            asyncio.run(server.services.demo.seed(dsn, examples=examples, token_path=token_path))
            seeded_note(token_path).write_text(digest(examples))
        return token_path.read_text().strip() if token_path.exists() else None

    def _seeds(self, token_path: Path) -> bool:
        """Whether the demo account or its packages may be missing; looking closer costs imports."""
        if self._postgres is None:
            return False
        try:
            seen = seeded_note(token_path).read_text()
        except OSError:
            return True
        return self._postgres.is_new or not token_path.exists() or seen != digest(find_examples())

    def _wait_until_ready(self, host: str, port: int) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not (answers(host, port, "/health/ready") and self._model_answers()):
            self.check()
            if time.monotonic() > deadline:
                logs = [child.log for child in (self._api, self._worker) if child]
                raise OperatorError(
                    f"The service is not ready after {READY_SECONDS:.0f} s. Last lines of its logs:\n"
                    + "\n".join(f"{log}:\n{tail(log)}" for log in logs),
                    exit_code=DIED,
                )
            time.sleep(POLL_SECONDS)

    def _model_answers(self) -> bool:
        return self._model_port is None or answers("127.0.0.1", self._model_port, "/health")

    def _look_after_worker(self) -> None:
        worker = self._worker
        if worker is None:
            return
        now = time.monotonic()
        if self._restart_worker_at is not None:
            if now >= self._restart_worker_at:
                self._restart_worker_at = None
                worker.begin()
            return
        code = worker.exit_code()
        if code is None:
            return
        if not self._was_ready:  # it cannot work at all: settings, most likely
            raise died("The worker", code=code, log=worker.log)
        if now - worker.began_at > WELL_SECONDS:
            self._pause_seconds = FIRST_PAUSE_SECONDS
        self._say(
            f"⚠️  The worker ended with code {code} and is started again in {self._pause_seconds:g} s. "
            f"Its log: {worker.log}"
        )
        self._restart_worker_at = now + self._pause_seconds
        self._pause_seconds = min(LONGEST_PAUSE_SECONDS, self._pause_seconds * 2)


ROOT = Path(__file__).resolve().parents[2]
URL_FILE = "url"  # for the operator's commands, which run in other processes
SECRET_NAMES = ("PRPM_JWT_SECRET", "PRPM_SECRET_KEY")


def find_examples() -> Path:
    """The folder of example packages: beside the code in a clone, inside `server` in a wheel."""
    in_wheel = ROOT / "server" / "examples"
    return in_wheel if in_wheel.is_dir() else ROOT / "examples"


def seeded_note(token_path: Path) -> Path:
    """Where it is kept which examples were published."""
    return token_path.with_name("seeded")


def digest(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of all files below `folder`."""
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """$PRPM_DATA_DIR, else a folder below HOME, else `.data` here: a user without HOME has no other place."""
    if given := environ.get("PRPM_DATA_DIR", "").strip():
        return Path(given)
    home = environ.get("HOME", "").strip()
    return Path(home, ".local", "share", "prpm-testing") if home and Path(home).is_dir() else Path(".data").absolute()


def running_database_url(data_dir: Path | None) -> str | None:
    """The database of the stack that runs in this data folder (the default one for None), or None."""
    return running_dsn((data_dir or default_data_dir(os.environ)).absolute() / "postgres")


def running_url(data_dir: Path | None) -> str | None:
    """Where the stack is reached that ran last in this data folder (the default one for None), or None."""
    try:
        return ((data_dir or default_data_dir(os.environ)) / URL_FILE).read_text()
    except OSError:
        return None


def kept_secrets(folder: Path) -> dict[str, str]:
    """The secrets of this installation, made once and kept in `folder`, mode 0600. Raises CannotStart."""
    path = folder / "secrets.json"
    try:
        return dict(json.loads(path.read_bytes()))
    except FileNotFoundError:
        made = {name: secrets.token_urlsafe(32) for name in SECRET_NAMES}
        write_private(path, json.dumps(made))
        return made
    except (OSError, ValueError) as error:
        raise CannotStart(
            f"{path} cannot be read ({error}). Restore it, or remove it: everybody must then log in again."
        ) from error


def write_private(path: Path, text: str) -> None:
    """`path` holds `text`, whole or not at all, and only its owner may read it."""
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.replace(path)


def usable_port(host: str, port: int) -> int:
    """`port` if it is free, any free one for 0. Raises OperatorError when it is taken or not ours to use."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As the server will: a port whose last connections are still fading counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OperatorError(
                f"Port {port} on {host} cannot be used: {error.strerror}. Choose another with --port, or leave it out."
            ) from error
        chosen: int = probe.getsockname()[1]
        return chosen


def reachable(host: str) -> str:
    """The address at which a server bound to `host` can be called from this machine."""
    every_address = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 (looked up, not bound)
    return every_address.get(host, f"[{host}]" if ":" in host else host)


def remembered_port(host: str, note: Path) -> int:
    """The port of the last start if it is free, so that its links open again; any free one otherwise."""
    try:
        return usable_port(host, int(note.read_text()))
    except (OSError, ValueError, OverflowError, OperatorError):
        port = usable_port(host, 0)
        note.write_text(str(port))
        return port


def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET of `path` is answered with 200."""
    import http.client  # late: every import before the programs are spawned delays the whole

    connection = http.client.HTTPConnection(reachable(host), port, timeout=2.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def died(name: str, *, code: int, log: Path) -> OperatorError:
    """The error for a child that ended unasked."""
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return OperatorError(f"{name} {how}. Last lines of {log}:\n{tail(log)}", exit_code=DIED)
