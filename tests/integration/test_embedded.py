"""Embedded PostgreSQL and Valkey: who runs them, what they survive, what they say when they cannot start."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from server.embedded import CannotStart, EmbeddedPostgres, start_postgres, start_valkey
from server.embedded.folders import FolderLock
from server.embedded.processes import may_reach, spawn, stop

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# Starts both servers in a process of its own, says so, and waits to be killed.
HOLDER = """
import sys, time
from pathlib import Path
from server.embedded import start_postgres, start_valkey
folder = Path(sys.argv[1])
postgres = start_postgres(folder / "postgres", durable=False)
valkey = start_valkey(folder / "valkey")
print(postgres.pid, valkey.pid, flush=True)
time.sleep(60)
"""

# Everything is imported first: the interpreter itself may live where the other user cannot read.
AS_ANOTHER = """
import asyncio, ctypes, os, sys
from pathlib import Path
import asyncpg, asyncpg.protocol, asyncpg.connection, encodings.idna
from server.embedded import start_postgres, start_valkey
uid = int(sys.argv[2])
asyncio.new_event_loop().close()
os.setgroups([]); os.setgid(uid); os.setuid(uid)
ctypes.CDLL(None).prctl(4, 1)  # dumpable, as a process is that began as this user
os.environ.pop("HOME", None)
postgres = start_postgres(Path(sys.argv[1], "postgres"), durable=False)
valkey = start_valkey(Path(sys.argv[1], "valkey"), durable=False)
async def ask():
    connection = await asyncpg.connect(postgres.dsn)
    print(await connection.fetchval("SELECT 41 + 1"))
    await connection.close()
asyncio.run(ask())
valkey.stop(); postgres.stop()
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a server has made and left cleanly, to be copied: initdb takes most of a second."""
    folder = tmp_path_factory.mktemp("template") / "postgres"
    start_postgres(folder, durable=False).stop()
    return folder


@pytest.fixture
def made(template: Path, tmp_path: Path) -> Path:
    """A copy of the template, owned as the original."""
    folder = tmp_path / "postgres"
    shutil.copytree(template, folder)
    if os.geteuid() == 0:
        found = template.stat()
        for path in (folder, *folder.rglob("*")):
            os.chown(path, found.st_uid, found.st_gid)
    return folder


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A short folder that everybody can reach; pytest's own belong to its user alone."""
    folder = Path(tempfile.mkdtemp(prefix="prpm-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def running(folder: Path, *, durable: bool = False) -> Iterator[EmbeddedPostgres]:
    server = start_postgres(folder, durable=durable)
    try:
        yield server
    finally:
        server.stop()


async def ask(dsn: str, *statements: str) -> object:
    """The last statement's first value."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements[:-1]:
            await connection.execute(statement)
        return await connection.fetchval(statements[-1])
    finally:
        await connection.close()


def ping(url: str, command: bytes = b"PING") -> bytes:
    path = url.removeprefix("unix://").partition("?")[0]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(2)
        client.connect(path)
        client.sendall(command + b"\r\n")
        return client.recv(64)


def eventually(condition: Callable[[], bool], *, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def run_as_another(folder: Path, *, uid: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AS_ANOTHER, str(folder), str(uid)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


async def test_postgres__data_and_locale_survive_a_restart(tmp_path: Path) -> None:
    with running(tmp_path / "postgres", durable=True) as server:
        assert server.initdb_seconds is not None
        await ask(server.dsn, "CREATE TABLE kept (x INT)", "INSERT INTO kept VALUES (7)", "SELECT 1")
        assert await ask(server.dsn, "SHOW fsync") == "on"

    with running(tmp_path / "postgres", durable=True) as server:
        assert server.initdb_seconds is None
        assert await ask(server.dsn, "SELECT x FROM kept") == 7
        assert await ask(server.dsn, "SHOW server_encoding") == "UTF8"
        assert await ask(server.dsn, "SELECT datlocale FROM pg_database LIMIT 1") == "C.UTF-8"
        assert await ask(server.dsn, "SHOW listen_addresses") == ""


def test_postgres__a_bad_locale_of_ours_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "xx_YY.nonsense")
    monkeypatch.delenv("HOME", raising=False)

    with running(tmp_path / "postgres") as server:
        assert server.exit_code() is None


async def test_postgres__data_survives_kill_9_of_the_server(made: Path) -> None:
    server = start_postgres(made)
    await ask(server.dsn, "CREATE TABLE kept (x INT)", "INSERT INTO kept VALUES (7)", "SELECT 1")
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: server.exit_code() is not None)
    server.stop()

    with running(made, durable=True) as again:
        assert await ask(again.dsn, "SELECT x FROM kept") == 7


def test_servers__kill_9_of_their_parent_leaves_nothing_and_the_next_start_works(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        pids = [int(pid) for pid in holder.stdout.readline().split()]
        assert len(pids) == 2
        holder.kill()

    # At once: the old servers may still be stopping.
    with running(tmp_path / "postgres"):
        valkey = start_valkey(tmp_path / "valkey")
        valkey.stop()
    assert eventually(lambda: all(is_gone(pid) for pid in pids))


def test_postgres__an_orphan_of_the_same_folder_is_asked_to_stop(made: Path) -> None:
    server = start_postgres(made)
    orphan = server.pid
    assert orphan is not None
    # As if our predecessor had died in a way that sent no signal: only its lock is gone.
    server._lock.release()

    with running(made) as again:
        assert again.pid != orphan
        assert server.exit_code() is not None


@pytest.mark.parametrize("pid", ["1", str(2**22 - 1), "0", "nonsense", ""])
def test_postgres__a_stale_pid_file_is_no_obstacle(made: Path, pid: str) -> None:
    (made / "cluster" / "postmaster.pid").write_text(f"{pid}\n{made / 'cluster'}\n1\n5432\n{made}\n\n  1 1\nready\n")

    with running(made) as server:
        assert server.exit_code() is None


def test_postgres__a_stale_pid_file_that_names_our_own_live_child_is_no_obstacle(made: Path) -> None:
    stranger = subprocess.Popen(["sleep", "30"], user=made.stat().st_uid if os.geteuid() == 0 else None)
    try:
        (made / "cluster" / "postmaster.pid").write_text(f"{stranger.pid}\n{made / 'cluster'}\n")

        with running(made):
            assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_postgres__an_initdb_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    unfinished = tmp_path / "postgres" / "cluster.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")

    with running(tmp_path / "postgres") as server:
        assert server.initdb_seconds is not None
        assert not unfinished.exists()


def test_postgres__data_of_another_major_version_is_refused_with_instructions(made: Path) -> None:
    (made / "cluster" / "PG_VERSION").write_text("16\n")

    with pytest.raises(CannotStart, match=r"written by PostgreSQL 16, this is PostgreSQL 18\..*pg_dumpall"):
        start_postgres(made)


def test_postgres__broken_data_is_refused_with_the_log(made: Path) -> None:
    (made / "cluster" / "global" / "pg_control").unlink()

    with pytest.raises(CannotStart, match=r"PostgreSQL did not start\.\n(.|\n)*pg_control"):
        start_postgres(made)


def test_folder__a_second_supervisor_is_told_who_has_it(made: Path) -> None:
    with running(made), pytest.raises(CannotStart, match=rf"in use by process {os.getpid()}\."):
        start_postgres(made)


def test_folder__a_refused_second_supervisor_leaves_the_first_alone(made: Path) -> None:
    with running(made) as server:
        with pytest.raises(CannotStart):
            start_postgres(made)
        assert server.exit_code() is None
        with pytest.raises(CannotStart):
            FolderLock(made)


@pytest.mark.parametrize("start", [start_postgres, start_valkey])
def test_folder__one_that_cannot_be_written_is_named(tmp_path: Path, start: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotStart, match=r"Cannot write to .*/file/data: Not a directory\. Choose another"):
        start(tmp_path / "file" / "data")


async def test_folder__a_path_too_long_for_a_socket_gets_a_short_one(template: Path, tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30) / "postgres"
    shutil.copytree(template, folder)

    server = start_postgres(folder, durable=False)
    valkey = start_valkey(folder.parent / "valkey")
    sockets = Path(server.dsn.partition("host=")[2])
    try:
        assert await ask(server.dsn, "SELECT 1") == 1
        assert ping(valkey.url) == b"+PONG\r\n"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        valkey.stop()
        server.stop()
    assert not sockets.exists()


@needs_root
async def test_root__below_a_folder_of_mode_0700_the_servers_run(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    folder = tmp_path / "closed" / "postgres"

    with running(folder) as server:
        assert await ask(server.dsn, "SELECT 1") == 1
    assert folder.stat().st_uid == 0
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700


@needs_root
async def test_root__in_an_open_folder_the_server_is_nobody_and_follows_when_it_is_closed(
    open_folder: Path,
) -> None:
    folder = open_folder / "data" / "postgres"
    with running(folder) as server:
        assert psutil.Process(server.pid).uids().real != 0
        await ask(server.dsn, "CREATE TABLE kept (x INT)", "SELECT 1")

    (open_folder / "data").chmod(0o700)

    with running(folder) as server:
        assert await ask(server.dsn, "SELECT COUNT(*) FROM kept") == 0


@needs_root
@pytest.mark.parametrize("uid", [65534, 4242], ids=["ordinary-user", "uid-without-a-name"])
def test_user__starts_without_home_and_root_can_take_over(open_folder: Path, uid: int) -> None:
    os.chown(open_folder, uid, uid)

    ran = run_as_another(open_folder, uid=uid)

    assert (ran.stdout, ran.stderr) == ("42\n", "")
    owner = (open_folder / "postgres").stat().st_uid
    assert owner == uid
    with running(open_folder / "postgres") as server:
        assert server.exit_code() is None


@needs_root
def test_user__whose_folder_belongs_to_somebody_else_is_told(open_folder: Path) -> None:
    ran = run_as_another(open_folder, uid=65534)

    assert f"CannotStart: Cannot write to {open_folder / 'postgres'}: Permission denied." in ran.stderr


def test_reach__follows_the_mode_bits(open_folder: Path) -> None:
    program = open_folder / "bin" / "program"
    program.parent.mkdir(mode=0o750)
    program.write_text("")
    program.chmod(0o755)
    own, group = os.geteuid(), program.parent.stat().st_gid

    assert may_reach(program, uid=own, gid=group)
    assert may_reach(program, uid=4242, gid=group)
    assert not may_reach(program, uid=4242, gid=4242)
    program.parent.chmod(0o755)
    assert may_reach(program, uid=4242, gid=4242)
    program.chmod(0o700)
    assert not may_reach(program, uid=4242, gid=4242)


def test_valkey__keeps_what_was_written_over_kill_9(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    assert ping(server.url, b"SET kept 7") == b"+OK\r\n"
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    assert eventually(lambda: server.exit_code() is not None)
    server.stop()

    again = start_valkey(tmp_path)
    try:
        assert ping(again.url, b"GET kept") == b"$1\r\n7\r\n"
    finally:
        again.stop()


def test_valkey__broken_data_is_refused_with_the_log(tmp_path: Path) -> None:
    start_valkey(tmp_path).stop()
    (tmp_path / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(CannotStart, match=r"Valkey did not start\.\n(.|\n)*AOF"):
        start_valkey(tmp_path)


def test_valkey__opens_no_port(tmp_path: Path) -> None:
    server = start_valkey(tmp_path)
    try:
        assert [c for c in psutil.Process(server.pid).net_connections("inet") if c.status == "LISTEN"] == []
    finally:
        server.stop()


def test_child__outside_the_main_thread_is_refused(tmp_path: Path) -> None:
    """The kernel would send the death signal as soon as the thread ends."""
    caught: list[BaseException] = []

    def start() -> None:
        try:
            start_valkey(tmp_path)
        except CannotStart as error:
            caught.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert [str(error) for error in caught] == ["Servers can be started from the main thread only."]


def test_child__that_ignores_signals_is_killed(tmp_path: Path) -> None:
    command = ["/bin/sh", "-c", "trap '' TERM INT; echo on; while :; do sleep 0.1; done"]
    child = spawn(command, death_signal=signal.SIGKILL, log=tmp_path / "log")
    assert eventually(lambda: (tmp_path / "log").read_text() == "on\n")

    stop(child, (signal.SIGTERM, 0.2))

    assert child.returncode == -signal.SIGKILL


def test_child__of_an_unknown_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"Cannot run /no/such/program: No such file or directory\."):
        spawn(["/no/such/program"], death_signal=signal.SIGKILL, log=tmp_path / "log")
