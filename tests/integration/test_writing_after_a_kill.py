"""A worker dies while a model writes a job's cases: what was answered is paid once, what was lost tried once more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from evals.archives import pack
from evals.types import Completion
from server.services.running import Pace, run_job
from server.store import jobs, suite_drafts
from tests.integration.test_generated_cases import CATALOGUE, WRITTEN, Hosted
from tests.integration.test_worker_process import another_worker
from tests.packages import a_package
from tests.service import Service, finished_job, start_service
from tests.standins.model_server import ModelServer, model_server, model_server_in_thread

# The catalogue's price: 1000 USD a million tokens.
USD_A_TOKEN = 0.001


@pytest.fixture
def served() -> Iterator[ModelServer]:
    with model_server_in_thread() as running:
        yield running


@pytest.fixture
def service(dsn: str, redis_url: str, served: ModelServer, tmp_path: Path) -> Iterator[Service]:
    """A service with short leases whose one model can write."""
    path = tmp_path / "models.yaml"
    path.write_text(CATALOGUE.format(url=served.base_url))
    yield from start_service(
        dsn=dsn, redis_url=redis_url, folder=tmp_path, PRPM_LEASE_SECONDS="3", PRPM_CATALOGUE=str(path)
    )


@pytest.fixture
async def hosted(db: asyncpg.Pool) -> AsyncIterator[Hosted]:
    async with model_server() as server:
        account = await Hosted(db, server).open()
        yield account
        await account.pool.aclose()


async def a_worker_dies(hosted: Hosted, *, at_request: int) -> None:
    """It claims the job and is gone once the model was asked so often, without a word."""
    job = await jobs.claim_job(hosted.db, "dies", lease_seconds=60, job_seconds=600)
    assert job is not None
    work = run_job(hosted.db, hosted.pool, job, pace=Pace(), concurrency=5, stop=asyncio.Event())
    working = asyncio.create_task(work)
    async with asyncio.timeout(10):
        while hosted.mock.requests < at_request:
            await asyncio.sleep(0.005)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    await hosted.db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 second'")
    await jobs.sweep_expired(hosted.db, most_attempts=3, code="c", message="m", superseded_message="s")


async def test_writing__what_was_answered_before_the_worker_died_is_not_asked_for_again(hosted: Hosted) -> None:
    job_id = await hosted.submits(generate=True)
    lost = await jobs.claim_job(hosted.db, "lost", lease_seconds=60, job_seconds=600)
    assert lost is not None
    said = Completion(text=json.dumps(WRITTEN), answered_by="mock-a")
    assert await suite_drafts.begin_draft(hosted.db, lost, number=1, model="writer")
    assert await suite_drafts.keep_draft(hosted.db, lost, number=1, completion=said)
    assert await jobs.release_job(hosted.db, lost)

    await hosted.works()

    assert hosted.times_written == 0
    assert [case["title"] for case in (await hosted.outcome(job_id))["test_cases"]] == ["Thanks", "Bye"]


async def test_writing__an_answer_of_another_model_is_not_taken_for_this_one(hosted: Hosted) -> None:
    """The server's default model may change between two leases of a job that named none."""
    await hosted.submits(generate=True)
    lost = await jobs.claim_job(hosted.db, "lost", lease_seconds=60, job_seconds=600)
    assert lost is not None
    said = Completion(text="I am somebody else.", answered_by="mock-z")
    assert await suite_drafts.begin_draft(hosted.db, lost, number=1, model="other")
    assert await suite_drafts.keep_draft(hosted.db, lost, number=1, completion=said)
    assert await jobs.release_job(hosted.db, lost)
    hosted.mock.answers.append(json.dumps(WRITTEN))

    await hosted.works()

    assert hosted.times_written == 1
    assert "somebody else" not in json.dumps(list(hosted.mock.last_bodies))


async def test_writing__a_worker_that_lost_its_lease_notes_and_keeps_nothing(hosted: Hosted) -> None:
    await hosted.submits(generate=True)
    lost = await jobs.claim_job(hosted.db, "lost", lease_seconds=60, job_seconds=600)
    assert lost is not None
    assert await suite_drafts.begin_draft(hosted.db, lost, number=1, model="writer")
    assert await jobs.release_job(hosted.db, lost)

    late = Completion(text="late", answered_by="mock-a")
    assert not await suite_drafts.keep_draft(hosted.db, lost, number=1, completion=late)
    assert not await suite_drafts.begin_draft(hosted.db, lost, number=2, model="writer")
    assert [(draft.number, draft.completion) for draft in await suite_drafts.read_drafts(hosted.db, lost)] == [
        (1, None)
    ]


async def test_writing__what_was_lost_is_asked_once_more_and_then_the_run_is_given_back(hosted: Hosted) -> None:
    hosted.mock.latency_ms = 500
    job_id = await hosted.submits(generate=True)
    await a_worker_dies(hosted, at_request=1)
    await a_worker_dies(hosted, at_request=2)

    await hosted.works()

    row = await hosted.row(job_id)
    assert hosted.mock.requests == 2
    assert (row["status"], row["error_code"], row["attempt"]) == ("failed", "no_cases", 3)
    assert row["error_message"] == (
        "There are no cases to run: The worker ended 2 times while the model writer wrote cases, so it is not asked "
        "again. The run was given back."
    )
    assert await hosted.db.fetchval("SELECT SUM(runs) FROM usage_ledger WHERE job_id = $1", job_id) == 0
    assert await hosted.db.fetchval("SELECT COUNT(*) FROM suite_drafts") == 0


def test_writing__kill_9_in_the_second_try_goes_on_from_the_first_answer(service: Service, served: ModelServer) -> None:
    alice, mock = service.an_account(), served.mock
    files = {"Content-Type": "application/gzip"}
    sent = alice.client.post("/api/v1/package-snapshots", content=pack(a_package(suite=None)), headers=files)
    mock.answers, mock.latency_ms = ["no"], 1000
    asked = {"snapshot_id": sent.json()["snapshot_id"], "generate": True}
    job_id = alice.client.post("/api/v1/test-jobs/run", json=asked).json()["job_id"]
    deadline = time.monotonic() + 30
    while mock.requests < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(service.worker_pid, signal.SIGKILL)
    mock.answers, mock.latency_ms = [json.dumps(WRITTEN)], 0
    with another_worker(service):
        job = finished_job(alice, job_id, seconds=90)

    assert (job["status"], job["conclusion"]) == ("completed", "passed")
    asked_to_write = [body for body in mock.last_bodies if "write test cases" in json.dumps(body)]
    assert len(asked_to_write) == 3  # an answer that was no use, one that was lost, and one more
    assert [message["content"] for message in asked_to_write[2]["messages"] if message["role"] == "assistant"] == ["no"]
    (row,) = service.fetch("SELECT cost_usd, attempt FROM test_jobs")
    assert row["attempt"] == 2
    paid = [body for body in mock.last_bodies if body is not asked_to_write[1]]
    assert float(row["cost_usd"]) == pytest.approx(cost_of(paid, ["no", json.dumps(WRITTEN)]), abs=0.01)
    assert service.fetch("SELECT COUNT(*) FROM suite_drafts")[0][0] == 0


def cost_of(bodies: list[dict], written: list[str]) -> float:
    """USD for these questions and their answers as the mock counts them; the last ones are answers to cases."""
    asked = sum(len("\n".join(message["content"] for message in body["messages"])) // 4 for body in bodies)
    answered = sum(max(1, len(text) // 4) for text in written)
    answered += (len(bodies) - len(written)) * (len("ANSWER-0001 0123456789") // 4)
    return (asked + answered) * USD_A_TOKEN
