"""The life of a check on a forge: from a job's acceptance to its end, whatever comes between (invariant 5)."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from evals.types import Trial
from server.domain.jobs import ClaimedJob
from server.domain.links import Link
from server.services.delivering import Outgoing, deliver
from server.services.forge_access import ForgeAccess
from server.services.linking import link_of_job
from server.store import jobs, outbox
from server.store.trials import store_trials
from tests.outbox import a_job, an_end, deliver_due, let_time_pass, rows
from tests.reporting import (
    PULL,
    a_github_account,
    access_to,
    reporting,
    the_change,
)
from tests.standins.github_forge import GitHubForge
from tests.standins.gitlab_forge import GitLabForge

CHECK = "prpm / p / default"


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture
def gitlab() -> Iterator[GitLabForge]:
    with GitLabForge().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github)
    yield made
    await made.aclose()


@pytest.fixture
def out(db: asyncpg.Pool, access: ForgeAccess) -> Outgoing:
    return reporting(db, access)


@pytest.fixture
async def gitlab_out(db: asyncpg.Pool, gitlab: GitLabForge) -> AsyncIterator[Outgoing]:
    access = access_to(db, gitlab)
    yield reporting(db, access)
    await access.aclose()


Forge = GitHubForge | GitLabForge


async def submitted(db: asyncpg.Pool, account: uuid.UUID, forge: Forge, **changes: Any) -> uuid.UUID:
    return await a_job(db, account, **{"key": None, "change": the_change(forge), **changes})


async def claimed(db: asyncpg.Pool) -> ClaimedJob:
    job = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert job is not None
    return job


async def finished(
    db: asyncpg.Pool, account: uuid.UUID, forge: Forge, conclusion: str = "failed", **changes: Any
) -> uuid.UUID:
    await submitted(db, account, forge, **changes)
    job = await claimed(db)
    assert await jobs.finish_job(db, job, an_end(conclusion))
    return job.id


def the_check(forge: GitHubForge, sha: str | None = None) -> dict[str, Any]:
    """The one check run of the head."""
    [check] = forge.checks(sha or the_change(forge).head_sha).values()
    return check


async def the_link(db: asyncpg.Pool, account: uuid.UUID, forge: Forge) -> Link:
    change = the_change(forge)
    link = await link_of_job(db, forge=change.forge, repository_id=forge.id, account_id=account)
    assert link is not None
    return link


class Gate:
    """The first such request is held at the forge's door until `go_on`."""

    def __init__(self, forge: GitHubForge, method: str, path: str) -> None:
        self.arrived, self.go_on = threading.Event(), threading.Event()
        forge.before_answer = lambda seen: self._hold() if seen.method == method and path in seen.path else None

    def _hold(self) -> None:
        if not self.arrived.is_set():
            self.arrived.set()
            self.go_on.wait(10)


# From the first to the last.


async def test_check__goes_from_queued_over_live_counts_to_its_conclusion(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    job_id = await submitted(db, account, github)
    await deliver_due(db, out)
    queued = the_check(github)
    job = await claimed(db)
    await store_trials(db, job, [Trial(case_index=0, model="echo", repeat_index=0, state="failed", score=0.0)])
    await deliver_due(db, out)
    running = the_check(github)
    assert await jobs.finish_job(db, job, an_end("failed"))
    await deliver_due(db, out)
    ended = the_check(github)

    assert (queued["status"], queued["output"]["title"]) == ("queued", "Waiting for its turn")
    assert (running["status"], running["output"]["title"]) == ("in_progress", "1 of 1 trial done, 1 failed so far")
    assert (ended["status"], ended["conclusion"]) == ("completed", "failure")
    assert ended["output"]["title"] == "❌ 1 failure, score 0 %"
    assert ended["name"] == CHECK
    assert ended["external_id"] == str(job_id)
    assert ended["details_url"] == f"https://testing.example/jobs/{job_id}"
    assert ended["actions"] == [
        {"label": "Re-run", "description": "Run these prompt tests once more", "identifier": "rerun"}
    ]
    assert ended["history"] == [("queued", None), ("in_progress", None), ("completed", "failure")]
    assert len(github.reported.ours(pull=PULL)) == 1
    assert await rows(db) == [("job", "sent", 1)]
    assert github.violations == []


async def test_check__a_short_job_is_told_in_one_request_though_three_things_happened(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await finished(db, account, github, "passed")

    await deliver_due(db, out)

    assert the_check(github)["history"] == [("completed", "success")]
    assert github.reported.comments == {}  # nothing changed, so nothing is said


async def test_check__counts_are_told_again_after_ten_seconds_and_then_ever_more_seldom(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    job = await claimed(db)
    await deliver_due(db, out)
    first = await again_in_seconds(db)
    await db.execute("UPDATE test_jobs SET started_at = started_at - INTERVAL '200 s'")
    await db.execute("UPDATE outbox SET again_at = NOW()")
    await store_trials(db, job, [Trial(case_index=0, model="echo", repeat_index=0, state="passed", score=1.0)])

    assert await outbox.look_again(db, most=10) == 1
    assert await deliver_due(db, out) == 1

    assert 9 < first <= 10
    assert 49 < await again_in_seconds(db) <= 51
    assert the_check(github)["output"]["title"] == "1 of 1 trial done"
    assert await outbox.look_again(db, most=10) == 0


async def again_in_seconds(db: asyncpg.Pool) -> float:
    seconds = await db.fetchval("SELECT EXTRACT(EPOCH FROM again_at - CLOCK_TIMESTAMP())::FLOAT8 FROM outbox")
    assert seconds is not None
    return float(seconds)


async def test_check__counts_that_did_not_change_are_not_written_again(
    db: asyncpg.Pool, github: GitHubForge, out: Outgoing
):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await claimed(db)
    await deliver_due(db, out)
    await db.execute("UPDATE outbox SET again_at = NOW()")
    await outbox.look_again(db, most=10)

    await deliver_due(db, out)

    assert the_check(github)["history"] == [("in_progress", None)]


async def test_check__is_never_open_again_once_its_job_has_ended(db: asyncpg.Pool, github: GitHubForge, out: Outgoing):
    account = await a_github_account(db, github)
    await submitted(db, account, github)
    await claimed(db)
    frozen = await outbox.claim_notification(db, lease_seconds=60)  # it read that the job runs, and then slept
    assert frozen is not None
    first = Gate(github, "POST", "/check-runs")
    late = asyncio.create_task(deliver(db, frozen, out))
    await asyncio.to_thread(first.arrived.wait, 5)
    await let_time_pass(db, 61)
    await db.execute("UPDATE test_jobs SET lease_until = NOW() - INTERVAL '1 s', attempt = 3")
    await jobs.sweep_expired(db, most_attempts=3, code="infrastructure", message="Lost.", tell=lambda _: None)
    assert await deliver_due(db, out) == 1
    first.go_on.set()
    await late
    assert the_check(github)["status"] == "in_progress"  # what came late stands in front

    await deliver_due(db, out)

    newest = the_check(github)
    assert (newest["status"], newest["conclusion"]) == ("completed", "neutral")
    open_ones = [run for run in github.reported.check_runs.values() if run["status"] != "completed"]
    assert open_ones == []
    assert await rows(db) == [("job", "sent", 1)]
