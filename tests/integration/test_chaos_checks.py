"""The chaos harness' own checks: each finds what it is there for, and none finds anything in a sound history."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from msgspec.structs import replace

from chaos.broken import VARIANTS
from chaos.checks import OVERRUNS, judge, read_checks, read_ends, read_faults
from chaos.proxy import DatabaseProxy
from chaos.site import AUDIT
from evals.types import Trial
from server.domain.jobs import JobEnd, KeptOutcome, SentSuite, Submission
from server.services.accounts import create_account
from server.store import jobs
from server.store.trials import store_trials
from tests.outbox import a_target
from tests.queue import a_new_job, a_package_of, an_account

KEYED, KEYLESS = "a" * 12, "b" * 12
END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}", tokens=10, cost_usd=0.5)
FAILED = "UPDATE test_jobs SET status = 'failed', error_code = '{}'"
REFUND = (
    "INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason) "
    "SELECT job_id, user_id, month, 'refund', -1, 'x' FROM usage_ledger"
)

# What each check must find. A check without a line here fails a test below.
BREAKS = {
    "V1 every acknowledged job is there, with whom it was promised to": (
        f"INSERT INTO chaos.answers VALUES ('{KEYED}', 202, NULL, NULL, GEN_RANDOM_UUID(), 'lost')"
    ),
    "V2 no job waits or runs for ever": "UPDATE test_jobs SET status = 'queued'",
    "V2 the queue's front is what waits": (
        "INSERT INTO waiting_accounts (user_id, start_key, jobs, trials) SELECT id, NOW(), 1, 1 FROM users"
    ),
    "V2 a completed job is whole": "DELETE FROM trials",
    "V2 a job that was answered by an identical one never ran, and that one is whole": (
        "UPDATE test_jobs SET cached_from = id"
    ),
    "V3 one charge a job and at most one refund": "DELETE FROM usage_ledger",
    "V3 a run is charged one, an answer from the cache none, and nothing of that is given back": (
        "UPDATE usage_ledger SET kind = 'cached'"
    ),
    "V3 a refund has a reason, and goes to the month that was charged": REFUND,
    "V3 what the service could not do is given back": FAILED.format("infrastructure"),
    "V3 a job that was cancelled while it ran is not given back": f"{FAILED.format('cancelled')}; {REFUND}",
    "V3 a superseded job is given back if no trial had a verdict, and only then": (
        f"{FAILED.format('superseded')}; {REFUND}"
    ),
    "V4 a job has cost what its trials cost, at least": (
        """UPDATE trials SET body = '{"completion": {"cost_usd": 0.6}}'"""
    ),
    "V4 money was spent at all": "UPDATE user_test_usage SET cost_usd = 0",
    "V4 usage is the ledger's sum, from nought to the tier's limit": "UPDATE user_test_usage SET test_runs_count = 7",
    "V4 a month's money is the sum of its jobs', and what they hold of it": "UPDATE user_test_usage SET cost_usd = 7",
    "V4 a job that does not run holds no money": (
        "ALTER TABLE test_jobs DISABLE TRIGGER test_jobs_let_go; UPDATE test_jobs SET held_usd = 1"
    ),
    "V5 a job ends once": (
        "UPDATE test_jobs SET status = 'running'; UPDATE test_jobs SET status = 'completed', completed_at = NOW()"
    ),
    "V5 only the holder of the highest fence ends a job": (
        "INSERT INTO chaos.ends SELECT id, fence - 1, 'late' FROM test_jobs"
    ),
    "V5 one worker alone believes that it ended the job": (
        "INSERT INTO chaos.ends SELECT id, fence, w FROM test_jobs, UNNEST(ARRAY['one', 'other']) w"
    ),
    "V5 no trial is stored under an old fence": (
        "UPDATE test_jobs SET status = 'running', fence = fence + 1; "
        "INSERT INTO trials SELECT job_id, 7, model, 0, state, body, fence FROM trials"
    ),
    "V5 a trial that is stored is not run again": (
        f"INSERT INTO chaos.calls VALUES ('{KEYED}', 0, NOW() + INTERVAL '1 second')"
    ),
    "V5 no job has more attempts than it may": "UPDATE test_jobs SET attempt = 4",
    "V6 live leases never exceed the tier's concurrency": (
        "INSERT INTO chaos.overruns SELECT id, 3, 2, NOW() FROM users"
    ),
    "V7 every ended job has a notification for each target that was there": "DELETE FROM outbox",
    "V7 nothing is told of a job that has not ended, and of none twice": (
        "INSERT INTO outbox (dedupe_key, lane, account_id, target_id, event, job_id)"
        " SELECT dedupe_key || '!', lane, account_id, target_id, event, job_id FROM outbox"
    ),
    "V8 no notification waits past its schedule": "UPDATE outbox SET next_at = NOW() - INTERVAL '2 minutes'",
    "E1 whoever follows a job hears of its end, as it was": (
        "INSERT INTO chaos.followed SELECT id, NULL, 1, 0, NOW() + INTERVAL '1 hour' FROM test_jobs"
    ),
    "E2 whoever follows a job hears of each trial once": (
        "INSERT INTO chaos.followed SELECT id, status, 99, 0, NOW() FROM test_jobs"
    ),
    "V9 one job for each event": (
        f"UPDATE test_jobs SET suite_id = (SELECT id FROM suites WHERE body LIKE '%{KEYED}%');"
        "UPDATE chaos.intents SET change_line = 'line'"
    ),
    "V9 one event, one answer byte for byte": (
        f"INSERT INTO chaos.answers SELECT intent, status, NULL, NULL, job_id, 'another' FROM chaos.answers"
        f" WHERE intent = '{KEYED}'; UPDATE chaos.intents SET change_line = 'line'"
    ),
    "V9 a job is superseded by a newer head of its own line, and no newest head is": FAILED.format("superseded"),
    "V9 nothing starts for an older head once a newer one is known": (
        "UPDATE test_jobs j SET change_line = 'line', created_at = NOW() - seconds * INTERVAL '1 second',"
        " change = JSONB_BUILD_OBJECT('cause', 'head', 'head_sha', seconds)"
        " FROM (SELECT id, 20 * ROW_NUMBER() OVER () AS seconds FROM test_jobs) n WHERE n.id = j.id"
    ),
    "V9 every new head was seen to": "INSERT INTO new_heads SELECT id, user_id, 'line' FROM test_jobs",
    "V10 one Idempotency-Key, one job": (
        f"UPDATE test_jobs SET suite_id = (SELECT id FROM suites WHERE body LIKE '%{KEYED}%')"
    ),
    "V10 one Idempotency-Key, one answer byte for byte": (
        f"INSERT INTO chaos.answers SELECT intent, status, NULL, NULL, job_id, 'another' FROM chaos.answers"
        f" WHERE intent = '{KEYED}'"
    ),
    "V10 equal bodies within ten seconds get one job": (
        f"UPDATE test_jobs SET suite_id = (SELECT id FROM suites WHERE body LIKE '%{KEYLESS}%')"
    ),
    "V11 Redis holds nothing that PostgreSQL lacks": "INSERT INTO chaos.messages VALUES ('k', 'run', '[\"a job\"]')",
    "the API accepts, refuses for quota, or asks to wait, and nothing else": (
        f"INSERT INTO chaos.answers VALUES ('{KEYED}', 503, NULL, NULL, NULL, 'no Retry-After')"
    ),
    "the API cancels, says that the job has ended, or asks to wait, and nothing else": (
        "INSERT INTO chaos.cancels SELECT id, 500, NULL, '' FROM test_jobs"
    ),
    "no process logs a fault of its own, whatever is away": "INSERT INTO chaos.faults VALUES ('api', 'oops', '{}')",
    "jobs were accepted and completed at all": "UPDATE test_jobs SET status = 'failed'",
}


@pytest.fixture
async def sound(db: asyncpg.Pool) -> asyncpg.Pool:
    """A database with the harness' audit and two jobs that ended as they should, and have that told."""
    await db.execute(AUDIT.read_text())
    account = await create_account(db, "someone", tier="plus")
    await a_package_of(db, account.id)
    await a_target(db, account.id, "https://receiver.example/hook")
    for intent in (KEYED, KEYLESS):
        job_id = await a_finished_job(db, account.id, intent)
        await db.execute("INSERT INTO chaos.intents VALUES ($1, $2, $3, 1, FALSE)", intent, account.id, intent == KEYED)
        await db.execute("INSERT INTO chaos.answers VALUES ($1, 202, NULL, NULL, $2, 'body')", intent, job_id)
        await db.execute("INSERT INTO chaos.calls VALUES ($1, 0, NOW() - INTERVAL '1 minute')", intent)
    return db


async def a_cached_job(db: asyncpg.Pool, account: uuid.UUID) -> None:
    """A job that ran, and one that it answered."""
    kept = KeptOutcome(settings="s", results="{}", deployments=("d",), versions=("1",), asked_at=datetime.now(UTC))
    await a_finished_job(db, account, "c" * 12, end=replace(END, kept=kept))
    again = a_new_job(account, suite=a_suite("c" * 12), outcome_settings="s", outcome_days=1)
    await jobs.submit_jobs(db, [again])
    assert await db.fetchval("SELECT cached_from IS NOT NULL FROM test_jobs WHERE id = $1", again.id)


def a_suite(intent: str) -> SentSuite:
    return SentSuite(id=intent[0] * 64, body=f'"intent-{intent}"', trials=1)


async def a_finished_job(db: asyncpg.Pool, account: uuid.UUID, intent: str, *, end: JobEnd = END) -> uuid.UUID:
    new = a_new_job(account, key=f"key:{intent}", suite=a_suite(intent))
    [submitted] = await jobs.submit_jobs(db, [new])
    assert isinstance(submitted, Submission)
    job = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert job is not None
    await store_trials(db, job, [Trial(case_index=0, model="echo", repeat_index=0, state="passed", score=1.0)])
    assert await jobs.finish_job(db, job, end)
    return new.id


async def findings(db: asyncpg.Pool) -> set[str]:
    async with db.acquire() as connection:
        return {finding.check for finding in await judge(connection)}


async def test_checks__find_nothing_in_a_sound_history(sound: asyncpg.Pool):
    assert await findings(sound) == set()


async def test_checks__find_nothing_when_one_job_answered_another(sound: asyncpg.Pool):
    await a_cached_job(sound, await sound.fetchval("SELECT id FROM users"))

    assert await findings(sound) == set()


@pytest.mark.parametrize("check", BREAKS)
async def test_check__finds_what_it_is_there_for(sound: asyncpg.Pool, check: str):
    await sound.execute(BREAKS[check])

    assert check in await findings(sound)


def test_checks__each_was_seen_to_fail():
    assert set(BREAKS) == set(read_checks())


def test_variants__each_must_be_seen_by_a_check_that_exists():
    for variant in VARIANTS.values():
        assert any(check.startswith(variant.seen_by) for check in read_checks())


async def test_sampler__V6_counts_live_leases_alone(sound: asyncpg.Pool):
    await sound.execute("UPDATE users SET subscription_tier = 'free'")  # which may have one
    await sound.execute("UPDATE test_jobs SET status = 'running', lease_until = NOW() - INTERVAL '1 second'")
    assert await sound.fetch(OVERRUNS) == []

    await sound.execute("UPDATE test_jobs SET lease_until = NOW() + INTERVAL '1 minute'")

    assert [(row["leases"], row["allowed"]) for row in await sound.fetch(OVERRUNS)] == [(2, 1)]


def test_read_ends__takes_the_fence_from_the_start_and_minds_no_broken_line(tmp_path: Path):
    job_id = uuid.uuid4()
    (tmp_path / "worker-0.001.log").write_text(
        f'{{"event": "job started", "job_id": "{job_id}", "fence": 7}}\n'
        f'{{"event": "job ended", "job_id": "{job_id}"}}\n'
        '{"event": "job en'
    )

    ends = read_ends(tmp_path.glob("*.log"))

    assert [(end.job_id, end.fence, end.worker) for end in ends] == [(job_id, 7, "worker-0.001")]


def test_read_faults__takes_errors_and_leaves_warnings(tmp_path: Path):
    (tmp_path / "api.001.log").write_text(
        '{"event": "database away", "level": "warning"}\n{"event": "request failed", "level": "error"}\nnot JSON\n'
    )

    assert [(fault.process, fault.event) for fault in read_faults(tmp_path.glob("*.log"))] == [
        ("api.001", "request failed")
    ]


async def test_proxy__swallows_the_answer_and_not_the_commit(dsn: str, server_folder: Path):
    host = parse_qs(urlsplit(dsn).query).get("host")
    if not host:
        pytest.skip("an external database has no socket of ours")
    proxy = DatabaseProxy(server_folder / uuid.uuid4().hex[:8], upstream=Path(host[0]))
    await proxy.open("worker")
    connection = await asyncpg.connect(proxy.dsn("worker"), database=urlsplit(dsn).path.lstrip("/"))
    await jobs.submit_jobs(connection, [a_new_job(await an_account(connection))])

    proxy.swallow("claim")
    with pytest.raises(asyncpg.PostgresConnectionError):
        await connection.fetchrow(jobs.SQL["claim_job"], "w", 60.0, 60.0)

    direct = await asyncpg.connect(dsn)
    assert await direct.fetchval("SELECT COUNT(*) FROM test_jobs WHERE status = 'running'") == 1
    assert proxy.swallowed == {"claim": 1}
    await direct.close()
    await proxy.aclose()
