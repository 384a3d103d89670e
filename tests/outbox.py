"""Targets and ended jobs of tests, straight in the database, and a worker's notifications with a clock of their own."""

from __future__ import annotations

import json
import uuid
from typing import Any

import asyncpg

from evals.models import Secret
from server.domain.jobs import ClaimedJob, JobEnd, Submission
from server.domain.notifications import TargetMode
from server.services.delivering import Outgoing, deliver
from server.services.notifying import Notifying, Wanted, add_target
from server.services.sealing import Sealer
from server.store import jobs, outbox
from tests.queue import a_new_job

SEALER = Sealer(Secret("a key for tests alone"))


def an_outcome_json(conclusion: str) -> str:
    """One row on one model, by its conclusion."""
    state = {"passed": "passed", "failed": "failed"}.get(conclusion, "error")
    row = {
        "title": "Says hello", "passed": state == "passed", "score": float(state == "passed"), "response": "hello",
        "model": "echo", "duration_ms": 5, "state": state, "assertions": [],
    }  # fmt: skip
    summary = {
        "total_tests": 1, "tests_passed": int(state == "passed"), "tests_failed": int(state != "passed"),
        "overall_score": row["score"], "total_duration_ms": 5, "total_tokens": 3, "total_cost_usd": 0.0,
        "tests_errored": int(state == "error"), "tests_skipped": 0, "conclusion": conclusion,
    }  # fmt: skip
    return json.dumps({"test_cases": [row], "summary": summary, "engine_version": "1"})


def an_end(conclusion: str) -> JobEnd:
    outcome = an_outcome_json(conclusion)
    summary = json.dumps(json.loads(outcome)["summary"])
    return JobEnd(status="completed", conclusion=conclusion, summary=summary, outcome=outcome)  # type: ignore[arg-type]


async def a_job(db: asyncpg.Pool, account: uuid.UUID, **changes: Any) -> uuid.UUID:
    """A job that waits."""
    [kept] = await jobs.submit_jobs(db, [a_new_job(account, **changes)])
    assert isinstance(kept, Submission)
    return kept.job_id


async def a_running_job(db: asyncpg.Pool, account: uuid.UUID, **changes: Any) -> ClaimedJob:
    await a_job(db, account, **changes)
    claimed = await jobs.claim_job(db, "w", lease_seconds=60, job_seconds=60)
    assert claimed is not None
    return claimed


async def an_ended_job(db: asyncpg.Pool, account: uuid.UUID, conclusion: str = "failed", **changes: Any) -> uuid.UUID:
    job = await a_running_job(db, account, **changes)
    assert await jobs.finish_job(db, job, an_end(conclusion))
    return job.id


async def a_target(
    db: asyncpg.Pool,
    account: uuid.UUID,
    url: str,
    *,
    kind: str = "webhook",
    mode: TargetMode | None = None,
    package: str = "*",
    secret: str | None = None,
) -> uuid.UUID:
    """A target at a stand-in."""
    site = Notifying(db=db, sealer=SEALER, allowed_origins=frozenset({origin(url)}))
    wanted = Wanted(kind=kind, url=url, mode=mode, package_glob=package, secret=secret)
    return (await add_target(site, account, wanted)).target.id


def origin(url: str) -> str:
    return "/".join(url.split("/")[:3])


def outgoing(*urls: str, **changes: Any) -> Outgoing:
    """Notifications that may reach these stand-ins, without jitter."""
    usual = {
        "sealer": SEALER, "allowed_origins": frozenset(origin(url) for url in urls),
        "public_url": "https://testing.example", "jitter": lambda: 0.0,
    }  # fmt: skip
    return Outgoing(**usual | changes)


async def deliver_due(db: asyncpg.Pool, out: Outgoing, *, rate: bool = False) -> int:
    """Tell what is due now, one after the other; how many rows that were. `rate`: a target's pauses hold."""
    count = 0
    while True:
        await outbox.wake_heads(db, most=1000)
        if not rate:
            await db.execute("UPDATE notify_targets SET hold_until = NULL")
        notification = await outbox.claim_notification(db, lease_seconds=60)
        if notification is None:
            return count
        await deliver(db, notification, out)
        count += 1


async def let_time_pass(db: asyncpg.Pool, seconds: float) -> None:
    """For the outbox it is so much later."""
    shift = "MAKE_INTERVAL(secs => $1)"
    await db.execute(
        f"UPDATE outbox SET next_at = next_at - {shift}, created_at = created_at - {shift},"
        f" lease_until = lease_until - {shift}, settled_at = settled_at - {shift}",
        seconds,
    )
    await db.execute(f"UPDATE notify_targets SET hold_until = hold_until - {shift}", seconds)


async def rows(db: asyncpg.Pool) -> list[tuple[str, str, int]]:
    """Event, state and tries of each row, in order."""
    found = await db.fetch("SELECT event, state, attempts FROM outbox ORDER BY id")
    return [(row["event"], row["state"], row["attempts"]) for row in found]
