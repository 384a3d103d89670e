"""Following a job by server-sent events and waiting for it by long polls, against real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from server.api.context import StreamCounts
from server.api.job_events import EventStream
from server.domain.accounts import Credential
from server.domain.news import Place
from server.services.watching import JobWatch
from server.store import jobs
from tests.events import Event, all_events, events_of
from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import PASSING_SUITE
from tests.queue import a_new_job, an_account
from tests.service import Account, Service, finished_job, free_port, start_process

LONG = 500  # trials of some ten seconds: the worker asks 20 at a time, and the slow model takes 0.4 s


def repeated(count: int) -> dict:
    """A suite of so many trials, each asked; a case has 100 at most, and equal ones are answered by each other."""
    case = PASSING_SUITE["tests"][0]
    return {
        "tests": [
            {**case, "input": f"Paris, number {done}", "repeat": min(100, count - done)}
            for done in range(0, count, 100)
        ]
    }


def a_job(account: Account, *, model: str = "slow", repeat: int = 1) -> str:
    answer = submit(account, snapshot_id=a_snapshot(account), suite=repeated(repeat), models=[model], force=True)
    assert answer.status_code == 202, answer.text
    return answer.json()["job_id"]


def until_running(account: Account, job_id: str) -> None:
    """Others' jobs may have the worker for a moment."""
    until = time.monotonic() + 20.0
    while account.client.get(f"/api/v1/test-jobs/{job_id}").json()["status"] == "queued":
        assert time.monotonic() < until, "the job does not start"
        time.sleep(0.05)


def cancel(account: Account, job_id: str) -> None:
    account.client.post(f"/api/v1/test-jobs/{job_id}/cancel")


def trials_of(events: list[Event]) -> list[int]:
    return [event.data["repeat"] for event in events if event.name == "trial"]


@contextmanager
def another_api(service: Service, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A second API process on the same database: where it listens, and the process."""
    port = free_port()
    process = start_process("api", {**service.environment, "PRPM_PORT": str(port), **settings}, service.folder)
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{url}/health/live", trust_env=False).status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url, process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)


def open_at_server(port: int | None, clients: set[int]) -> set[int]:
    """The ports of those clients whose connection the server on this port has open, however far its end is (but for
    the last wait). While others come and go, one read of this table may leave a row out or show it twice."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [row[2] for row in rows if row[1].endswith(f":{port:04X}") and row[3] not in ("0A", "06")]
    return {int(end.rpartition(":")[2], 16) for end in ends} & clients


def client_at(url: str, account: Account) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {account.token}"}, timeout=30, trust_env=False)


def test_events__tell_a_job_from_the_queue_to_its_end(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=3)

    events = all_events(alice.client, job_id)

    names = [event.name for event in events]
    assert names[-1] == "completed"
    assert names.count("started") == 1
    assert sorted(trials_of(events)) == [1, 2, 3]
    assert events[-2].data == {"trials_total": 3, "trials_finished": 3, "passed": 3, "failed": 0, "errored": 0}
    assert events[-1].data == alice.client.get(f"/api/v1/test-jobs/{job_id}").json()
    assert len({event.id for event in events}) == len(events)


def test_events__a_waiting_job_tells_its_place_and_its_cancelling(service: Service):
    alice = service.an_account()
    running = [a_job(alice, repeat=60) for _ in range(2)]  # all that the tier runs at once
    job_id = a_job(alice)

    with events_of(alice.client, job_id) as events:
        first = next(events)
        cancel(alice, job_id)
        rest = list(events)

    assert (first.name, first.data["position_in_queue"] >= 1) == ("queued", True)
    assert [(event.name, event.data.get("code")) for event in rest if event.name != "queued"] == [
        ("failed", "cancelled")
    ]
    for other in running:
        cancel(alice, other)


def test_events__a_reader_that_comes_back_hears_the_rest_alone(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, model="echo", repeat=5)
    events = all_events(alice.client, job_id)
    events = all_events(alice.client, job_id)  # the queue is no part of what is told later

    for number, event in enumerate(events[:-1]):
        assert all_events(alice.client, job_id, after=event.id) == events[number + 1 :]


def test_events__go_on_at_another_process_in_the_middle_of_a_job(service: Service):
    alice = service.an_account()
    with another_api(service) as (url, process), client_at(url, alice) as elsewhere:
        job_id = a_job(alice, repeat=30)  # 20 at a time
        heard: list[Event] = []
        with events_of(elsewhere, job_id) as events:
            for event in events:
                heard.append(event)
                if event.name == "trial":
                    break
        process.kill()

        heard += all_events(alice.client, job_id, after=heard[-1].id)

    assert sorted(trials_of(heard)) == list(range(1, 31))
    assert heard[-1].name == "completed"


def test_events__A12_A15_are_for_those_who_may_see_the_job(service: Service):
    alice, bob = service.an_account(), service.an_account()
    job_id = a_job(alice, model="echo")
    path = f"/api/v1/test-jobs/{job_id}/events"

    foreign, unknown = bob.client.get(path), bob.client.get(f"/api/v1/test-jobs/{uuid.uuid4()}/events")

    assert (foreign.status_code, foreign.content) == (404, unknown.content)
    assert service.visitor().get(path).status_code == 401
    assert service.visitor().get(path, params={"token": alice.token}).status_code == 400
    assert alice.client.get("/api/v1/test-jobs/no-id/events").status_code == 404
    assert alice.client.post(path).status_code == 405


@pytest.mark.parametrize("last_id", ["x", "0.e.0.-1.0", "999999999.r.0.5.0", "1.r.0.5"])
def test_events__an_id_that_is_none_of_the_jobs_is_refused(service: Service, last_id: str):
    alice = service.an_account()
    job_id = a_job(alice)

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}/events", headers={"Last-Event-ID": last_id})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id")


def test_events__whoever_has_heard_the_end_is_told_not_to_come_back(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, model="echo")
    last = all_events(alice.client, job_id)[-1]

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}/events", headers={"Last-Event-ID": last.id})

    assert (answer.status_code, answer.content) == (204, b"")


def test_events__say_how_to_come_back_and_pass_proxies(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, model="echo")

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}/events")
    head = alice.client.head(f"/api/v1/test-jobs/{job_id}/events")

    assert answer.text.startswith("retry: 1000\n\n")
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["cache-control"] == "no-store, no-transform"
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_events__one_listener_serves_many_readers(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=40)
    listeners = "SELECT pid FROM pg_stat_activity WHERE application_name = 'prpm-testing listener' AND datname = $1"
    database = urlsplit(service.dsn).path.lstrip("/")

    with ThreadPoolExecutor(30) as pool:
        readers = [pool.submit(all_events, alice.client, job_id) for _ in range(30)]
        while not service.fetch(listeners, database):
            time.sleep(0.05)
        assert len(service.fetch(listeners, database)) == 1
        heard = [reader.result() for reader in readers]

    for events in heard:
        assert sorted(trials_of(events)) == list(range(1, 41))
        assert events[-1].name == "completed"


def test_events__a_lost_listener_comes_back_and_its_readers_miss_nothing(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=40)
    database = urlsplit(service.dsn).path.lstrip("/")

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(all_events, alice.client, job_id)
        killed = service.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'prpm-testing listener' AND datname = $1",
            database,
        )
        events = reader.result()

    assert len(killed) == 1
    assert sorted(trials_of(events)) == list(range(1, 41))
    assert events[-1].name == "completed"


def test_events__what_no_notification_told_is_found(service: Service):
    alice = service.an_account()
    with another_api(service) as (url, _), client_at(url, alice) as elsewhere:
        elsewhere.timeout = httpx.Timeout(10)  # less than the signs of life: silence fails
        job_id = a_job(alice, repeat=LONG)
        with events_of(elsewhere, job_id) as events:
            next(event for event in events if event.name == "started")
            # With the worker held still nobody announces this: as if the notification had been lost.
            os.kill(service.worker_pid, signal.SIGSTOP)
            try:
                time.sleep(0.3)  # what it announced before is heard by then
                service.fetch(
                    "UPDATE test_jobs SET status = 'failed', fence = fence + 1, completed_at = NOW(),"
                    " error_code = 'x', error_message = 'X' WHERE id = $1",
                    uuid.UUID(job_id),
                )
                began = time.monotonic()
                last = list(events)[-1]
            finally:
                os.kill(service.worker_pid, signal.SIGCONT)

    assert (last.name, last.data["code"]) == ("failed", "x")
    assert time.monotonic() - began < 7.0


def test_events__D4_a_token_has_a_limit_and_a_reader_that_goes_makes_room(service: Service):
    alice, bob = service.an_account(), service.an_account()
    with (
        another_api(service, PRPM_STREAMS_PER_TOKEN="2") as (url, _),
        client_at(url, alice) as elsewhere,
        client_at(url, bob) as bob_elsewhere,
    ):
        job_id, bobs = a_job(alice, repeat=LONG), a_job(bob, model="echo")
        with events_of(elsewhere, job_id) as one, events_of(elsewhere, job_id) as two:
            next(one), next(two)
            refused = elsewhere.get(f"/api/v1/test-jobs/{job_id}/events")
            assert all_events(bob_elsewhere, bobs)[-1].name == "completed"

        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_streams")
        assert refused.headers["retry-after"] == "2"
        deadline = time.monotonic() + 5
        while True:
            try:
                with events_of(elsewhere, job_id) as again:
                    next(again)
                break
            except AssertionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
    cancel(alice, job_id)


def test_events__a_process_that_stops_ends_streams_and_waits_politely(service: Service):
    alice = service.an_account()
    with (
        another_api(service) as (url, process),
        client_at(url, alice) as streaming,
        client_at(url, alice) as waiting,
        ThreadPoolExecutor(1) as pool,
    ):
        job_id = a_job(alice, repeat=LONG)
        wait = pool.submit(waiting.get, f"/api/v1/test-jobs/{job_id}", params={"wait": 25})
        with streaming.stream("GET", f"/api/v1/test-jobs/{job_id}/events") as response:
            lines = response.iter_lines()
            assert next(lines) == "retry: 1000"
            until_running(alice, job_id)
            time.sleep(0.3)  # the wait has to be on its way as well
            process.send_signal(signal.SIGTERM)
            began = time.monotonic()
            rest = list(lines)  # raises if the connection is cut
        answer = wait.result()
        exit_code = process.wait(10)

    assert ": this process ends; come back with the last id" in rest
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    assert exit_code == 0
    assert time.monotonic() - began < 3.0
    cancel(alice, job_id)


def test_wait__is_answered_when_the_job_ends(service: Service):
    alice = service.an_account()
    job_id = a_job(alice)

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}?wait=25")

    assert answer.json()["status"] == "completed"
    assert answer.content == alice.client.get(f"/api/v1/test-jobs/{job_id}").content
    began = time.monotonic()
    assert alice.client.get(f"/api/v1/test-jobs/{job_id}?wait=25").json() == answer.json()
    assert time.monotonic() - began < 2.0


def test_wait__ends_with_the_present_state(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=LONG)
    began = time.monotonic()

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}?wait=1")

    assert time.monotonic() - began >= 1.0
    assert (answer.status_code, answer.json()["status"]) == (200, "running")
    cancel(alice, job_id)


def test_wait__with_a_version_ends_with_the_first_change(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=60)
    path = f"/api/v1/test-jobs/{job_id}"

    answers, version = [], "none"
    while not answers or answers[-1]["status"] in ("queued", "running"):
        answer = alice.client.get(f"{path}?wait=20", headers={"If-None-Match": version})
        assert answer.status_code == 200
        assert answer.headers["etag"] != version
        version = answer.headers["etag"]
        answers.append(answer.json())

    finished = [answer["progress"]["trials_finished"] for answer in answers if "progress" in answer]
    assert len(answers) >= 4  # 60 trials, 20 at a time
    assert finished == sorted(finished)
    assert alice.client.get(path, headers={"If-None-Match": version}).status_code == 304
    assert alice.client.get(path).status_code == 200


@pytest.mark.parametrize("wait", ["26", "-1", "x", "1.5", "", "1e400"])
def test_wait__Q12_other_than_0_to_25_is_refused(service: Service, wait: str):
    alice = service.an_account()

    answer = alice.client.get(f"/api/v1/test-jobs/{uuid.uuid4()}", params={"wait": wait})

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert answer.json()["details"][0].startswith("wait: ")


def test_wait__a_client_that_goes_leaves_nothing_behind(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, repeat=LONG)
    host = urlsplit(service.url)
    head = f"GET /api/v1/test-jobs/{job_id}?wait=25 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {alice.token}"

    with ExitStack() as open_ones:
        connections = [socket.create_connection((host.hostname, host.port)) for _ in range(50)]
        for connection in connections:
            open_ones.enter_context(connection)
            connection.sendall(f"{head}\r\n\r\n".encode())
        clients = {connection.getsockname()[1] for connection in connections}
        time.sleep(0.3)
        deadline = time.monotonic() + 5
        while open_at_server(host.port, clients) < clients:
            assert time.monotonic() < deadline, "the server ended a wait by itself"

    deadline = time.monotonic() + 5
    while open_at_server(host.port, clients):
        assert time.monotonic() < deadline, "the server keeps what its clients ended"
        time.sleep(0.05)
    cancel(alice, job_id)


async def test_events__D4_a_reader_that_takes_nothing_is_dropped_with_its_last_id(db: asyncpg.Pool, dsn: str):
    account = await an_account(db)
    job = a_new_job(account)
    await jobs.submit_jobs(db, [job])
    watch = JobWatch(db, connect=lambda: asyncpg.connect(dsn), most_readers=10)
    counts = StreamCounts(most=1)
    site: Any = SimpleNamespace(watch=watch, streams=counts)
    credential = Credential(account_id=account)
    aborted = asyncio.Event()
    sent: list[Any] = []

    roused = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await roused.wait()
        roused.clear()
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 2:  # the head and the first hint fit, then nothing more
            await asyncio.Event().wait()

    running = asyncio.create_task(watch.run())
    stream = EventStream(site, job.id, credential, Place(), slow_seconds=0.2)
    try:
        async with asyncio.timeout(5):
            scope = {
                "type": "http",
                "method": "GET",
                "prpm.abort": aborted.set,
                "prpm.exchange": SimpleNamespace(rouse=roused.set),
            }
            await stream(scope, receive, send)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert aborted.is_set()
    assert watch.is_idle
    with counts.one_more(credential):  # its place is free again
        pass


def test_old_clients__poll_as_ever(service: Service):
    alice = service.an_account()
    job_id = a_job(alice, model="echo")

    assert finished_job(alice, job_id)["status"] == "completed"
