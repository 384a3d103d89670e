"""Waiting for a job: by events where there are some, else by long polls, else by looking each second."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from cli import answers
from cli.client import RegistryClient
from cli.errors import InvalidAnswer, TimedOut
from cli.event_stream import ServerEvent, read_events
from cli.following import JobFollower
from evals.models import Secret
from tests.standins.service import JOB_ID, TOKEN, Reply, Service, a_job, a_row, a_summary
from tests.unit.cli.conftest import User

EVENTS = "GET /api/v1/test-jobs/{id}/events"
STATUS = "GET /api/v1/test-jobs/{id}"
RETRY = "POST /api/v1/test-jobs/{id}/retry"
DONE = a_job("completed", results=a_summary([a_row("Review")]))


def stream(*events: tuple[str, str, dict[str, Any]], kind: str = "text/event-stream; charset=utf-8") -> Reply:
    """A stream of events (id, name, data) that ends then."""
    lines = ["retry: 1000\n\n", *(f"id: {i}\nevent: {name}\ndata: {json.dumps(data)}\n\n" for i, name, data in events)]
    return Reply("".join(lines).encode(), headers={"content-type": kind})


STARTED = ("1.r", "started", {"attempt": 1, "models": ["m"], "trials_total": 2})
FIRST = ("1.r.1", "trial", {"case": "Review", "model": "m", "repeat": 1, "state": "passed"})
SECOND = ("1.r.2", "trial", {"case": "Edge", "model": "m", "repeat": 2, "state": "failed"})
COUNTS = ("1.r.3", "progress", {"trials_total": 2, "trials_finished": 2, "passed": 1, "failed": 1, "errored": 0})
END = ("1.e", "completed", DONE)


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def queued(self, position: int | None) -> None:
        self.said.append(position)

    def started(self, started: answers.Started) -> None:
        self.said.append("started")

    def trial(self, trial: answers.TrialDone) -> None:
        self.said.append(trial.case)

    def progress(self, progress: answers.Progress | None) -> None:
        self.said.append(progress.trials_finished if progress else None)


def wait(
    service: Service,
    *,
    timeout_seconds: float = 60.0,
    sleep: Callable[[float], None] = lambda _seconds: None,
    now: Callable[[], float] = time.monotonic,
) -> tuple[answers.Job, list[Any]]:
    client, heard = RegistryClient(service.url, token=Secret(TOKEN)), Heard()
    follower = JobFollower(client, JOB_ID, heard, timeout_seconds=timeout_seconds, sleep=sleep, now=now)
    try:
        return follower.wait(), heard.said
    finally:
        client.close()


def test_follow__events_alone_tell_everything(service: Service) -> None:
    service.set(EVENTS, stream(("0.q", "queued", {"position_in_queue": 2}), STARTED, FIRST, SECOND, COUNTS, END))

    job, heard = wait(service)

    assert job.status == "completed"
    assert heard == [2, "started", "Review", "Edge", 2]
    assert service.requests(STATUS) == []


def test_follow__a_broken_stream_goes_on_behind_its_last_event(service: Service) -> None:
    service.set(EVENTS, stream(STARTED, FIRST), Reply(drop=True), stream(SECOND, COUNTS, END))

    _, heard = wait(service)

    assert heard == ["started", "Review", "Edge", 2]
    assert [seen.headers.get("last-event-id") for seen in service.requests(EVENTS)] == [None, "1.r.1", "1.r.1"]
    assert service.requests(STATUS) == []


def test_follow__an_event_of_a_newer_server_is_passed_over(service: Service) -> None:
    service.set(EVENTS, stream(("1.z", "weather", {"sun": True}), END))

    assert wait(service)[0].status == "completed"


@pytest.mark.parametrize(
    "reply",
    [
        Reply({"error": "There is nothing at this address."}, status=404),
        Reply({"error": "Too many.", "code": "too_many_streams"}, status=429, headers={"retry-after": "2"}),
        Reply(b"<html>a proxy's page</html>", headers={"content-type": "text/html"}),
        Reply(drop=True),
    ],
)
def test_follow__without_events_the_server_is_asked_to_wait(service: Service, reply: Reply) -> None:
    running = Reply(a_job("running", progress={"trials_finished": 1}), headers={"etag": 'W/"1"'})
    service.set(EVENTS, reply)
    service.set(STATUS, running, Reply(b"", status=304), Reply(DONE))
    slept: list[float] = []

    job, heard = wait(service, sleep=slept.append)

    assert job.status == "completed"
    assert heard == [1]
    first, second, third = service.requests(STATUS)
    assert (first.path.endswith(JOB_ID), "if-none-match" in first.headers) == (True, False)
    assert second.path.endswith("?wait=25")
    assert (second.headers["if-none-match"], third.headers["if-none-match"]) == ('W/"1"', 'W/"1"')
    assert len(slept) == 1  # after a wait that was answered at once


def test_follow__an_old_server_is_looked_at_each_second(service: Service) -> None:
    service.set(EVENTS, Reply({"error": "Not found"}, status=404))
    service.set(STATUS, *[Reply(a_job("running"))] * 3, Reply(DONE))
    slept: list[float] = []

    wait(service, sleep=slept.append)

    assert len(slept) == 3
    assert all(0.5 < seconds <= 1.0 for seconds in slept)


def test_follow__silence_is_a_standstill_and_signs_of_life_are_not_progress(service: Service) -> None:
    service.set(EVENTS, stream(STARTED))
    clock = iter(range(0, 10_000, 7))

    with pytest.raises(TimedOut):
        wait(service, timeout_seconds=60, now=lambda: float(next(clock)))

    assert len(service.requests(EVENTS)) < 10


def test_read_events__comments_are_signs_of_life_and_what_is_cut_off_is_left_out() -> None:
    lines = [": hello", "", "id: 1", "event: trial", "data: {}", "", "data:a", "data: b", "", "id: 2", "data: {"]

    assert list(read_events(lines)) == [
        None,
        ServerEvent(id="1", name="trial", data="{}"),
        ServerEvent(id="", name="message", data="a\nb"),
    ]


def test_read_events__G10_one_without_an_end_is_given_up() -> None:
    with pytest.raises(InvalidAnswer):
        list(read_events("data: " + "x" * 1000 for _ in range(10_000)))


def test_job__follow_prints_a_line_for_each_trial(alice: User, service: Service) -> None:
    hostile = ("1.r.1", "trial", {"case": "\x1b[2JReview", "model": "m", "repeat": 1, "state": "passed"})
    service.set(EVENTS, stream(("0.q", "queued", {"position_in_queue": 2}), STARTED, hostile, SECOND, COUNTS, END))

    ran = alice.runs("job", JOB_ID, "--follow")

    assert ran.out.startswith(
        "⏳ Position in queue: 2\n▶️  Started: 2 trials\n✅ Review · m\n❌ Edge #2 · m\n✅ Test completed!\n"
    )
    assert ran.code == 0


def test_job__retry_submits_again_once_and_follows_the_new_one(alice: User, service: Service) -> None:
    usage = {"tests_used_this_month": 24, "tests_remaining": 76, "tier": "plus"}
    away = Reply({"error": "Away."}, status=503)
    service.set(RETRY, away, Reply({"job_id": JOB_ID, "status": "queued", "usage": usage}, status=202))

    ran = alice.runs("job", "11111111-2222-3333-4444-555555555555", "--retry")

    first, second = service.requests(RETRY)
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert f"✅ Job submitted (ID: {JOB_ID})\n" in ran.out
    assert "   Usage: 24/100 tests this month\n" in ran.out
    assert ran.code == 0


def test_job__retry_of_a_job_that_runs_is_said(alice: User, service: Service) -> None:
    service.set(RETRY, Reply({"error": "This job is running.", "code": "job_not_finished"}, status=409))

    ran = alice.runs("job", JOB_ID, "--retry")

    assert (ran.code, ran.err) == (2, "❌ This job is running.\n")


def test_job__cancel_goes_with_nothing_else(alice: User, service: Service) -> None:
    assert alice.runs("job", JOB_ID, "--cancel", "--retry").code == 2
    assert service.seen == []
