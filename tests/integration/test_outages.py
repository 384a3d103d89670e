"""PostgreSQL and Valkey go away under a running service and come back: nothing accepted is lost, nothing is a 500."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from server.embedded import EmbeddedPostgres, EmbeddedValkey, start_postgres, start_valkey
from server.store.migrations import migrate
from tests.events import events_of
from tests.packages import PASSING_SUITE, an_archive
from tests.service import Account, Service, finished_job, in_loop, start_service
from tests.webhooks import a_payload, encoded, github_headers

SECRET = "a github secret"


@dataclass
class Stack:
    """A service on servers of its own, which a test may stop and start. Durable: one test crashes PostgreSQL."""

    folder: Path
    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey
    service: Service

    def start_postgres(self) -> None:
        self.postgres = start_postgres(self.folder / "pg")

    def start_valkey(self) -> None:
        self.valkey = start_valkey(self.folder / "valkey")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = Path(tempfile.mkdtemp(prefix="prpm-"))  # short: socket paths have a limit of 107 bytes
    postgres, valkey = start_postgres(folder / "pg"), start_valkey(folder / "valkey")
    in_loop(migrate(postgres.dsn))
    running = start_service(
        dsn=postgres.dsn,
        redis_url=valkey.url,
        folder=tmp_path_factory.mktemp("outages"),
        PRPM_GITHUB_WEBHOOK_SECRET=SECRET,
        PRPM_LEASE_SECONDS="3",  # a claim whose answer was lost is found that soon
    )
    made = Stack(folder, postgres, valkey, next(running))
    yield made
    running.close()  # type: ignore[attr-defined]  # a generator
    made.postgres.stop()
    made.valkey.stop()
    shutil.rmtree(folder, ignore_errors=True)


def a_snapshot(account: Account) -> str:
    answer = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    )
    return answer.json()["snapshot_id"]


def submit(account: Account, snapshot_id: str, **body) -> httpx.Response:
    return account.client.post(
        "/api/v1/test-jobs/run", json={"snapshot_id": snapshot_id, "suite": PASSING_SUITE, "force": True, **body}
    )


def deliver(service: Service, name: str) -> httpx.Response:
    """As GitHub would."""
    body = encoded(a_payload("github/pull_request.opened"))
    headers = github_headers(body, secret=SECRET, delivery=name)
    return service.visitor().post("/webhooks/github", content=body, headers=headers)


def handled(service: Service, name: str) -> str:
    """How the delivery ended."""
    deadline = time.monotonic() + 10
    while True:
        ((state,),) = service.fetch("SELECT state FROM deliveries WHERE delivery_id = $1", name)
        if state != "received":
            return str(state)
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ready(service: Service, status: int, *, seconds: float = 10) -> dict:
    """The readiness once it has this status."""
    visitor = service.visitor()
    deadline = time.monotonic() + seconds
    while (answer := visitor.get("/health/ready")).status_code != status:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.05)
    return answer.json()


def processes_live(service: Service) -> bool:
    return all(Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z" for pid in (service.api_pid, service.worker_pid))


def many_cases(count: int) -> dict:
    return {"tests": [{**PASSING_SUITE["tests"][0], "description": f"case {number}"} for number in range(count)]}


def test_outage__W23_without_postgresql_everything_is_a_503_and_it_recovers_by_itself(stack: Stack):
    service = stack.service
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    job_id = submit(alice, snapshot_id).json()["job_id"]
    finished_job(alice, job_id)

    stack.postgres.stop()

    paths = [
        f"/api/v1/test-jobs/{job_id}", f"/api/v1/test-jobs/{job_id}/results", "/api/v1/users/me/test-usage",
        "/api/v1/user", "/api/v1/packages/sample", f"/jobs/{job_id}", "/packages/sample/tests",
    ]  # fmt: skip
    began = time.monotonic()
    answers = [submit(alice, snapshot_id), *(alice.client.get(path) for path in paths)]
    assert {answer.status_code for answer in answers} == {503}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)
    assert answers[0].json()["code"] == "unavailable"
    assert "postgres" not in "".join(answer.text for answer in answers).lower()
    assert time.monotonic() - began < 2 * len(answers)
    assert ready(service, 503)["services"]["database"] == "away"
    assert service.visitor().get("/health/live").status_code == 200

    stack.start_postgres()

    started = time.monotonic()
    assert ready(service, 200)["status"] == "ok"
    after = submit(alice, snapshot_id)
    assert after.status_code == 202
    assert finished_job(alice, after.json()["job_id"])["conclusion"] == "passed"
    assert time.monotonic() - started < 5
    assert processes_live(service)


def test_outage__W23_without_postgresql_a_delivery_is_a_503_that_the_forge_counts_as_failed(stack: Stack):
    service = stack.service
    assert deliver(service, "before").status_code == 202

    stack.postgres.stop()
    refused = deliver(service, "meanwhile")
    stack.start_postgres()
    ready(service, 200)

    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) > 0
    assert refused.elapsed.total_seconds() < 2
    assert service.fetch("SELECT 1 FROM deliveries WHERE delivery_id = 'meanwhile'") == []
    # The forge is asked for it again, and it comes under the same name.
    assert deliver(service, "meanwhile").status_code == 202
    assert [handled(service, name) for name in ("before", "meanwhile")] == ["ignored", "ignored"]


def test_outage__without_valkey_deliveries_are_accepted_and_handled(stack: Stack):
    service = stack.service
    stack.valkey.stop()

    answers = [deliver(service, f"without valkey {number}") for number in range(5)]
    began = time.monotonic()
    states = [handled(service, f"without valkey {number}") for number in range(5)]
    seconds = time.monotonic() - began
    stack.start_valkey()

    assert [answer.status_code for answer in answers] == [202] * 5
    assert max(answer.elapsed.total_seconds() for answer in answers) < 1
    assert states == ["ignored"] * 5
    assert seconds < 4  # the inbox looks each second


def test_outage__a_crash_of_postgresql_in_the_middle_of_a_job_costs_no_trial_twice(stack: Stack):
    service = stack.service
    alice = service.an_account()
    job_id = submit(alice, a_snapshot(alice), suite=many_cases(60), models=["slow"]).json()["job_id"]
    while not alice.client.get(f"/api/v1/test-jobs/{job_id}").json().get("progress", {}).get("trials_finished"):
        time.sleep(0.02)

    assert stack.postgres.pid
    os.kill(stack.postgres.pid, signal.SIGQUIT)  # an immediate shutdown, as after a crash
    while stack.postgres.exit_code() is None:
        time.sleep(0.02)
    stack.postgres.stop()
    stack.start_postgres()

    ready(service, 200)
    job = finished_job(alice, job_id, seconds=40)
    assert (job["status"], job["results"]["tests_passed"]) == ("completed", 60)
    trials = service.fetch("SELECT case_index, fence FROM trials WHERE job_id = $1", job["id"])
    assert len(trials) == 60
    ledger = service.fetch("SELECT kind FROM usage_ledger WHERE user_id = $1", alice.id)
    assert [row["kind"] for row in ledger] == ["charge"]


def test_outage__no_submit_that_was_acknowledged_is_lost_when_postgresql_comes_and_goes(stack: Stack):
    """The harness keeps its own list of what was acknowledged, and compares."""
    service = stack.service
    alice = service.an_account(tier="enterprise")
    snapshot_id = a_snapshot(alice)
    until = time.monotonic() + 3

    def keep_submitting(_: int) -> list[httpx.Response]:
        answers = []
        while time.monotonic() < until:
            answers.append(submit(alice, snapshot_id, models=["echo"]))
            time.sleep(0.05)
        return answers

    with ThreadPoolExecutor(4) as pool:
        pending = pool.map(keep_submitting, range(4))
        for _ in range(2):
            time.sleep(0.5)
            stack.postgres.stop()
            stack.start_postgres()
        answers = [answer for some in pending for answer in some]

    codes = {answer.status_code for answer in answers}
    assert codes <= {202, 503}
    assert 202 in codes
    acknowledged = {answer.json()["job_id"] for answer in answers if answer.status_code == 202}
    for job_id in acknowledged:
        assert finished_job(alice, job_id, seconds=30)["conclusion"] == "passed"
    charges = service.fetch("SELECT job_id FROM usage_ledger WHERE user_id = $1 AND kind = 'charge'", alice.id)
    kept = service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id)
    # A commit whose answer was lost may be kept without being acknowledged; it is charged once like any other.
    assert {str(row["id"]) for row in kept} >= acknowledged
    assert sorted(row["job_id"] for row in charges) == sorted(row["id"] for row in kept)
    used = alice.client.get("/api/v1/users/me/test-usage").json()["current_month"]["test_runs_count"]
    assert used == len(kept)


def test_outage__without_valkey_jobs_are_accepted_and_run(stack: Stack):
    service = stack.service
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)

    stack.valkey.stop()

    answer = submit(alice, snapshot_id)
    assert answer.status_code == 202
    assert answer.elapsed.total_seconds() < 1
    assert ready(service, 200) == {
        "status": "degraded",
        "services": {"database": "ok", "redis": "away", "worker": "ok"},
    }
    began = time.monotonic()
    assert finished_job(alice, answer.json()["job_id"])["conclusion"] == "passed"
    assert time.monotonic() - began < 3  # the sweep looks each second

    stack.start_valkey()

    deadline = time.monotonic() + 10
    while ready(service, 200)["status"] != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert processes_live(service)


def test_outage__without_valkey_readers_hear_every_event_and_waits_are_answered(stack: Stack):
    alice = stack.service.an_account()
    snapshot_id = a_snapshot(alice)
    suite = many_cases(4)
    stack.valkey.stop()

    began = time.monotonic()
    followed = submit(alice, snapshot_id, suite=suite, models=["slow"]).json()["job_id"]
    with events_of(alice.client, followed) as events:
        names = [event.name for event in events]
    seconds = time.monotonic() - began
    awaited = submit(alice, snapshot_id, suite=suite, models=["slow"]).json()["job_id"]
    waited = alice.client.get(f"/api/v1/test-jobs/{awaited}?wait=10").json()
    stack.start_valkey()

    assert names.count("trial") == 4
    assert names[-1] == "completed"
    # A sweep and the trials take less than 3 s; the slow look of whoever is told nothing comes after 5 s.
    assert seconds < 4.5
    assert waited["status"] == "completed"


def test_outage__after_valkey_is_back_a_wake_up_starts_jobs_at_once(stack: Stack):
    service = stack.service
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    stack.valkey.stop()
    stack.start_valkey()

    def seconds_to_the_end() -> float:
        began = time.monotonic()
        finished_job(alice, submit(alice, snapshot_id).json()["job_id"])
        return time.monotonic() - began

    # The worker may pause up to 5 s before it asks Valkey again; the sweep bridges that with up to a second a job.
    deadline = time.monotonic() + 10
    while sorted(seconds_to_the_end() for _ in range(5))[2] > 0.4:
        assert time.monotonic() < deadline


def test_outage__valkey_forgetting_everything_loses_nothing(stack: Stack):
    import redis

    service = stack.service
    alice = service.an_account(tier="enterprise")
    snapshot_id = a_snapshot(alice)
    jobs = [submit(alice, snapshot_id).json()["job_id"] for _ in range(10)]
    with redis.Redis.from_url(stack.valkey.url) as client:
        client.flushall()
    jobs += [submit(alice, snapshot_id).json()["job_id"] for _ in range(10)]

    began = time.monotonic()
    assert {finished_job(alice, job_id)["conclusion"] for job_id in jobs} == {"passed"}
    assert time.monotonic() - began < 5


def test_outage__postgresql_restarts_and_readers_hear_the_rest(stack: Stack):
    account = stack.service.an_account()
    case = {**PASSING_SUITE["tests"][0], "repeat": 100}
    job_id = submit(account, a_snapshot(account), suite={"tests": [case]}, models=["slow"]).json()["job_id"]

    with ThreadPoolExecutor(2) as pool, events_of(account.client, job_id) as events:
        next(event for event in events if event.name == "trial")
        wait = pool.submit(account.client.get, f"/api/v1/test-jobs/{job_id}?wait=25")
        stack.postgres.stop()
        stack.start_postgres()
        rest = list(events)
        answer = wait.result()

    assert rest[-1].name == "completed"
    assert 1 + sum(event.name == "trial" for event in rest) == 100
    assert answer.status_code in (200, 503)
