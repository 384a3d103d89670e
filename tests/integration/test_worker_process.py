"""Workers as processes: killed, stopped, without Redis, and what of keys can be seen in and around them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from server.embedded import start_valkey
from server.settings import read_settings
from server.store.migrations import migrate
from server.worker import take_vendor_keys
from tests.conftest import with_database
from tests.packages import PASSING_SUITE, an_archive
from tests.service import START_SECONDS, Account, Service, finished_job, in_loop, start_process, start_service
from tests.standins.model_server import ModelServer, model_server_in_thread

LEASE_SECONDS = 3
CANARY = "canary-key-5f0e2d9c81"


@pytest.fixture(scope="module")
def model_server() -> Iterator[ModelServer]:
    with model_server_in_thread() as running:
        yield running


@pytest.fixture(scope="module")
def service(
    admin_dsn: str, redis_url: str, model_server: ModelServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service with short leases and a proxy that echoes the key in every refusal."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("workers")
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=folder,
        PRPM_LEASE_SECONDS=str(LEASE_SECONDS),
        PRPM_LITELLM_PROXY_URL=model_server.url,
        PRPM_LITELLM_PROXY_KEY=CANARY,
    )


async def execute(dsn: str, statement: str) -> None:
    import asyncpg

    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextlib.contextmanager
def another_worker(service: Service, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """One more worker of the service, gone at the end."""
    process = start_process("worker", {**service.environment, **settings}, service.folder)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """The process stands still, so that another one gets the work."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def submit_slow(account: Account, *, cases: int) -> str:
    """A job of so many trials, 0.4 s each, 20 at a time."""
    suite = {"tests": [{**PASSING_SUITE["tests"][0], "description": f"case {number}"} for number in range(cases)]}
    snapshot = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    ).json()["snapshot_id"]
    body = {"snapshot_id": snapshot, "suite": suite, "models": ["slow"]}
    return account.client.post("/api/v1/test-jobs/run", json=body).json()["job_id"]


def wait_until_some_finished(account: Account, job_id: str) -> None:
    deadline = time.monotonic() + 15
    while not account.client.get(f"/api/v1/test-jobs/{job_id}").json()["progress"]["trials_finished"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def owner_of(service: Service, job_id: str) -> int:
    """The pid in the name of the lease's owner."""
    (row,) = service.fetch("SELECT lease_owner FROM test_jobs WHERE id = $1", job_id)
    return int(re.fullmatch(r".*-(\d+)-[0-9a-f]{6}", row["lease_owner"])[1])


def wait_until_claiming(service: Service, process: subprocess.Popen[bytes]) -> None:
    """The new worker has announced itself."""
    deadline = time.monotonic() + START_SECONDS
    while not service.fetch("SELECT id FROM workers WHERE id LIKE $1", f"%-{process.pid}-%"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)  # each look is a connection, and takes the starting process's time


def test_worker__killed_in_the_middle_another_goes_on_and_no_finished_trial_runs_again(service: Service):
    alice = service.an_account()
    with another_worker(service) as doomed:
        wait_until_claiming(service, doomed)
        with paused(service.worker_pid):
            job_id = submit_slow(alice, cases=60)
            wait_until_some_finished(alice, job_id)
            assert owner_of(service, job_id) == doomed.pid
            doomed.kill()
            doomed.wait()
            killed_at = time.monotonic()
            before = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
        job = finished_job(alice, job_id, seconds=30)

    assert job["results"]["tests_passed"] == 60
    assert time.monotonic() - killed_at < LEASE_SECONDS + 1 + 4  # lease, sweep, and what is left of the run
    after = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
    assert 0 < len(before) < 60
    assert len(after) == 60
    assert {tuple(row) for row in before} <= {tuple(row) for row in after}  # written once, by the first lease
    assert len({row["fence"] for row in after}) == 2
    (ended,) = service.fetch("SELECT attempt FROM test_jobs WHERE id = $1", job_id)
    assert ended["attempt"] == 2
    ledger = service.fetch("SELECT kind FROM usage_ledger WHERE user_id = $1", alice.id)
    assert [row["kind"] for row in ledger] == ["charge"]


def test_worker__SIGTERM_gives_the_job_back_at_once_and_spends_no_attempt(service: Service):
    alice = service.an_account()
    with another_worker(service) as leaving:
        wait_until_claiming(service, leaving)
        with paused(service.worker_pid):
            job_id = submit_slow(alice, cases=60)
            wait_until_some_finished(alice, job_id)
            leaving.terminate()
            assert leaving.wait(5) == 0
            (given_back,) = service.fetch("SELECT status, attempt, lease_owner FROM test_jobs WHERE id = $1", job_id)
            before = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
        stopped_at = time.monotonic()
        job = finished_job(alice, job_id, seconds=30)

    assert tuple(given_back) == ("queued", 0, None)
    assert time.monotonic() - stopped_at < 4  # at once, not after the lease
    assert job["results"]["tests_passed"] == 60
    after = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
    assert {tuple(row) for row in before} <= {tuple(row) for row in after}
    (ended,) = service.fetch("SELECT attempt FROM test_jobs WHERE id = $1", job_id)
    assert ended["attempt"] == 1


def test_worker__paused_longer_than_its_lease_writes_nothing_late(service: Service):
    """kill -9 never tries the fence, as a dead process cannot write late; a pause does."""
    alice = service.an_account()
    with another_worker(service) as frozen:
        wait_until_claiming(service, frozen)
        with paused(service.worker_pid):
            job_id = submit_slow(alice, cases=60)
            wait_until_some_finished(alice, job_id)
        with paused(frozen.pid):
            job = finished_job(alice, job_id, seconds=30)
            ended = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
        time.sleep(0.5)

        now = service.fetch("SELECT case_index, fence, finished_at FROM trials WHERE job_id = $1", job_id)
        assert sorted(map(tuple, now)) == sorted(map(tuple, ended))
        assert alice.client.get(f"/api/v1/test-jobs/{job_id}").json() == job
        assert frozen.poll() is None


def test_worker__SIGTERM_ends_it_while_the_database_has_no_schema(service: Service, admin_dsn: str):
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(execute(admin_dsn, f'CREATE DATABASE "{name}"'))

    with another_worker(service, PRPM_DATABASE_URL=with_database(admin_dsn, name)) as waiting:
        wait_for_handlers(waiting)
        waiting.terminate()

        assert waiting.wait(5) == 0


def test_worker__SIGTERM_ends_it_while_redis_is_away(service: Service, server_folder: Path):
    valkey = start_valkey(server_folder / "leaving")
    with another_worker(service, PRPM_REDIS_URL=valkey.url) as waiting:
        wait_until_claiming(service, waiting)
        valkey.stop()
        time.sleep(0.3)  # it has noticed, and tries again
        waiting.terminate()

        assert waiting.wait(5) == 0


def wait_for_handlers(process: subprocess.Popen[bytes]) -> None:
    """The process catches SIGTERM, and no longer dies of it."""
    deadline = time.monotonic() + START_SECONDS
    status = Path(f"/proc/{process.pid}/status")
    while not int(re.search(r"SigCgt:\s*([0-9a-f]+)", status.read_text())[1], 16) & (1 << (signal.SIGTERM - 1)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_worker__a_restart_of_redis_does_not_end_it(service: Service, server_folder: Path):
    valkey = start_valkey(server_folder / "restarted")
    with another_worker(service, PRPM_REDIS_URL=valkey.url) as worker:
        wait_until_claiming(service, worker)
        valkey.stop()
        valkey = start_valkey(server_folder / "restarted")
        with paused(service.worker_pid):
            alice = service.an_account()
            finished_job(alice, submit_slow(alice, cases=1))

        assert worker.poll() is None
    valkey.stop()


def test_api__never_loads_litellm_nor_a_client_for_models(service: Service):
    alice = service.an_account()
    finished_job(alice, submit_slow(alice, cases=1))
    for path in ("/api/v1/models", "/docs", "/docs/openapi.json"):
        assert alice.client.get(path).status_code == 200

    loaded = Path(f"/proc/{service.api_pid}/maps").read_text()
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import server.operator.api, server.app"],
        env=service.environment,
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    assert "asyncpg" in loaded
    for name in ("litellm", "tokenizers", "tiktoken", "openai", "xllamacpp"):
        assert f"/{name}" not in loaded
        assert not re.search(rf"\| +{name}\b", imported)
    assert psutil.Process(service.api_pid).memory_info().rss < 110 * 2**20


def test_worker__keys_are_not_in_the_environment_that_libraries_and_children_see():
    environ = {"ANTHROPIC_API_KEY": CANARY, "OPENAI_API_KEY": CANARY, "PRPM_LITELLM_PROXY_KEY": CANARY, "HOME": "/root"}

    before = take_vendor_keys(read_settings(environ), environ)

    assert environ == {"HOME": "/root"}
    assert before["ANTHROPIC_API_KEY"] == CANARY


def test_worker__L5_settings_show_no_secret():
    names = ("DATABASE_URL", "DATABASE_DIRECT_URL", "REDIS_URL", "JWT_SECRET", "LITELLM_PROXY_KEY")

    settings = read_settings({f"PRPM_{name}": CANARY for name in names})

    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)


FAILING = ["status-401-a", "status-500-a", "status-403-a", "nonsense-a", "html-a"]


def test_job__L2_the_models_key_appears_nowhere_though_every_refusal_echoes_it(
    service: Service, model_server: ModelServer
):
    catalogue = Path(service.environment["PRPM_CATALOGUE"])
    vendor = {"backend": "litellm", "free": True, "key_variable": "NO_SUCH_KEY"}
    models = {
        name: {"context_tokens": 1000, "proxy_name": name, "deployments": [{**vendor, "model": f"openai/{name}"}]}
        for name in FAILING
    }
    theirs = catalogue.with_name("leaky.yaml")
    theirs.write_text(json.dumps({"default": FAILING[0], "models": models}))
    alice = service.an_account()
    snapshot = alice.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    ).json()["snapshot_id"]

    with (
        another_worker(service, PRPM_CATALOGUE=str(theirs), PRPM_LOG_LEVEL="DEBUG") as worker,
        paused(service.worker_pid),
    ):
        wait_until_claiming(service, worker)
        job_id = submit_when_known(alice, snapshot)
        job = finished_job(alice, job_id, seconds=30)
    answers = [
        alice.client.get(path).text
        for path in (f"/api/v1/test-jobs/{job_id}", f"/api/v1/test-jobs/{job_id}/results", f"/jobs/{job_id}")
    ]

    assert job["code"] == "no_verdict"
    assert f"Bearer {CANARY}" in model_server.mock.last_keys  # it was sent, and so it was echoed
    assert CANARY not in "".join(answers)
    for log in service.folder.glob("*.log"):
        assert CANARY not in log.read_text()
    assert CANARY not in all_text(service)
    assert not [line for line in command_lines() if CANARY in line]


def submit_when_known(account: Account, snapshot: str) -> str:
    """Submitted to the failing models, as soon as the API has heard of them."""
    deadline = time.monotonic() + 10
    while True:
        answer: httpx.Response = account.client.post(
            "/api/v1/test-jobs/run", json={"snapshot_id": snapshot, "suite": PASSING_SUITE, "models": FAILING}
        )
        if answer.status_code == 202:
            return answer.json()["job_id"]
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.1)


def all_text(service: Service) -> str:
    """Every row of every table, as text."""
    tables = service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return "\n".join(
        str(row["line"])
        for table in tables
        for row in service.fetch(f'SELECT t::text AS line FROM "{table["tablename"]}" AS t')
    )


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield path.read_text()
