"""D8: what grows is removed after its time, in batches, by one worker; jobs and the ledger never are."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from server.domain.accounts import Caller
from server.domain.errors import Conflict, NotFound
from server.services.accounts import create_account
from server.services.publishing import keep_snapshot, publish_package
from server.services.reading import read_job, read_outcome
from server.services.retention import Keep, clean_up, keep_clean
from server.settings import InvalidSettings, read_settings
from server.store import packages
from server.store.retention import take_turn
from server.worker import what_to_keep
from tests.packages import an_archive

KEEP = Keep(trials_days=30, outcomes_days=365, uploads_days=90, keys_days=7)
NOTHING = {
    "trials": 0,
    "outcomes": 0,
    "uploads": 0,
    "idempotency_keys": 0,
    "events": 0,
    "history": 0,
    "base_trials": 0,
    "completions": 0,
    "cached_outcomes": 0,
    "change_heads": 0,
    "change_turns": 0,
    "deliveries": 0,
    "oidc_exchanges": 0,
    "body_hashes": 0,
    "notifications": 0,
    "sessions": 0,
}


async def an_account(db: asyncpg.Pool) -> Caller:
    """An account with a package of its own id, for jobs that are only drawn."""
    account = await create_account(db, f"user-{uuid.uuid4().hex[:8]}", tier="plus")
    await db.execute(
        "INSERT INTO packages (id, owner_id, name, format, is_published) VALUES ($1, $1, 'drawn', 'cursor', FALSE)",
        account.id,
    )
    return Caller(
        id=account.id,
        asker_id=account.id,
        scopes=("write:packages",),
        kind="user",
        username=account.username,
        email=None,
        tier="plus",
        is_admin=False,
        token_kind="api",
    )


@pytest.fixture
async def alice(db: asyncpg.Pool) -> Caller:
    await db.execute(
        "INSERT INTO snapshots (id, archive, archive_sha256, file_count) VALUES ($1, 'x', $1, 0)", "a" * 64
    )
    await db.execute("INSERT INTO suites (id, body) VALUES ($1, '{}')", "b" * 64)
    return await an_account(db)


async def jobs_of(
    db: asyncpg.Pool,
    caller: Caller,
    *,
    count: int = 1,
    days_ago: float = 0,
    status: str = "completed",
    snapshot_id: str = "a" * 64,
    suite_id: str = "b" * 64,
    package_id: uuid.UUID | None = None,
) -> list[uuid.UUID]:
    """That many jobs of so long ago, each charged and, once completed, with an outcome and two trials."""
    rows = await db.fetch(
        """
        WITH job AS (
          INSERT INTO test_jobs (user_id, submitted_by, package_id, package_version, snapshot_id, suite_id,
            suite_source, models_requested, framework, trials_total, start_key, submit_position, submit_wait_seconds,
            submit_runs_used, submit_tier, status, results, created_at)
          SELECT $1, $1, COALESCE($7::UUID, $1), '1.0.0', $5, $6, 'package', '{echo}', 'litellm', 2, NOW(), 1, 0, 1,
            'plus', $4::TEXT, '{}', NOW() - MAKE_INTERVAL(secs => $3 * 86400)
          FROM GENERATE_SERIES(1, $2::INT) RETURNING id, created_at, status
        ), entry AS (
          INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
          SELECT id, $1, DATE_TRUNC('month', created_at)::DATE, 'charge', 1, 'run accepted' FROM job
        ), outcome AS (
          INSERT INTO job_outcomes (job_id, outcome, created_at) SELECT id, '{}', created_at FROM job
          WHERE status = 'completed'
        ), trial AS (
          INSERT INTO trials (job_id, case_index, model, repeat_index, state, body, fence, finished_at)
          SELECT id, n, 'echo', 0, 'passed', '{}', 1, created_at FROM job, GENERATE_SERIES(0, 1) n
        )
        SELECT id FROM job
        """,
        caller.id, count, float(days_ago), status, snapshot_id, suite_id, package_id,
    )  # fmt: skip
    return [row["id"] for row in rows]


async def count(db: asyncpg.Pool, table: str) -> int:
    return await db.fetchval(f"SELECT COUNT(*) FROM {table}")


async def upload(db: asyncpg.Pool, caller: Caller, *, days_ago: float = 0, **package) -> str:
    """A snapshot's id, as if it was sent so long ago."""
    kept = await keep_snapshot(db, caller, archive=an_archive(**package))
    await age_upload(db, kept.snapshot_id, days_ago=days_ago)
    return kept.snapshot_id


async def age_upload(db: asyncpg.Pool, snapshot_id: str, *, days_ago: float) -> None:
    versions = "SELECT {} FROM package_versions WHERE snapshot_id = $1"
    for table, column, which in (
        ("packages", "updated_at", f"id IN ({versions.format('package_id')})"),
        ("suites", "created_at", f"id IN ({versions.format('suite_id')})"),
        ("snapshots", "created_at", "id = $1"),
        ("package_versions", "published_at", "snapshot_id = $1"),
    ):
        statement = f"UPDATE {table} SET {column} = {column} - $2 * INTERVAL '1 day' WHERE {which}"
        await db.execute(statement, snapshot_id, float(days_ago))


async def test_retention__D8_thousands_of_old_trials_go_and_young_ones_stay(db: asyncpg.Pool, alice: Caller):
    await jobs_of(db, alice, count=2500, days_ago=31)
    await jobs_of(db, alice, count=20, days_ago=29)

    removed = await clean_up(db, KEEP)

    assert removed == NOTHING | {"trials": 5000}
    assert await count(db, "trials") == 40
    assert await count(db, "job_outcomes") == 2520


async def test_retention__trials_of_a_job_that_runs_stay_however_old(db: asyncpg.Pool, alice: Caller):
    await jobs_of(db, alice, days_ago=40, status="running")
    await jobs_of(db, alice, days_ago=40, status="queued")

    assert await clean_up(db, KEEP) == NOTHING

    assert await count(db, "trials") == 4


async def test_retention__old_outcomes_go_and_the_job_keeps_its_summary(db: asyncpg.Pool, alice: Caller):
    [old] = await jobs_of(db, alice, days_ago=366)
    [young] = await jobs_of(db, alice, days_ago=364)

    await clean_up(db, KEEP)

    assert await read_outcome(db, alice, young) == "{}"
    with pytest.raises(NotFound) as refused:
        await read_outcome(db, alice, old)
    assert refused.value.error_code == "results_removed"
    assert refused.value.message == "The answers of this job are no longer kept; its summary stays with the job."
    assert (await read_job(db, alice, old)).results == "{}"


async def test_retention__a_running_job_is_still_told_to_wait_for_its_results(db: asyncpg.Pool, alice: Caller):
    [job] = await jobs_of(db, alice, status="running")

    with pytest.raises(Conflict):
        await read_outcome(db, alice, job)


async def test_retention__jobs_and_ledger_are_never_removed(db: asyncpg.Pool, alice: Caller):
    await jobs_of(db, alice, count=50, days_ago=4000)

    await clean_up(db, Keep(trials_days=1, outcomes_days=1, uploads_days=1, keys_days=1))

    assert await count(db, "test_jobs") == 50
    assert await count(db, "usage_ledger") == 50
    assert await count(db, "trials") == 0
    assert await count(db, "job_outcomes") == 0


async def test_retention__Q5_keys_stay_for_days_and_body_hashes_for_an_hour(db: asyncpg.Pool, alice: Caller):
    [job] = await jobs_of(db, alice)
    await db.execute(
        """
        INSERT INTO submissions (caller_id, key, request_sha256, job_id, created_at)
        SELECT $1, kind || n, REPEAT('c', 64), $2, NOW() - age
        FROM GENERATE_SERIES(1, 1500) n, (VALUES
          ('key:old-', INTERVAL '8 days'), ('key:young-', INTERVAL '6 days'),
          ('body:old-', INTERVAL '61 minutes'), ('body:young-', INTERVAL '59 minutes')) v (kind, age)
        """,
        alice.id,
        job,
    )

    removed = await clean_up(db, KEEP)

    assert removed == NOTHING | {"idempotency_keys": 1500, "body_hashes": 1500}
    left = await db.fetch("SELECT SPLIT_PART(key, '-', 1) AS kind, COUNT(*)::INT AS n FROM submissions GROUP BY 1")
    assert {row["kind"]: row["n"] for row in left} == {"key:young": 1500, "body:young": 1500}


async def test_retention__sessions_go_a_day_after_their_end_and_other_tokens_stay(db: asyncpg.Pool, alice: Caller):
    await db.execute(
        """
        INSERT INTO access_tokens (user_id, kind, token_hash, name, expires_at)
        SELECT $1, kind, kind || n || ago, kind, NOW() - ago * INTERVAL '1 hour'
        FROM GENERATE_SERIES(1, 1200) n, UNNEST(ARRAY['session', 'api', 'jwt']) kind, UNNEST(ARRAY[-5, 23, 25]) ago
        """,
        alice.id,
    )

    removed = await clean_up(db, KEEP)

    assert removed == NOTHING | {"sessions": 1200}
    kinds = await db.fetch("SELECT kind, COUNT(*)::INT AS n FROM access_tokens GROUP BY kind")
    assert {row["kind"]: row["n"] for row in kinds} == {"session": 2400, "api": 3600, "jwt": 3600}


async def test_retention__an_upload_that_nobody_tested_goes_whole(db: asyncpg.Pool, alice: Caller):
    await upload(db, alice, days_ago=91, text="Old.", suite={"tests": [{"input": "a", "description": "old"}]})

    removed = await clean_up(db, KEEP)

    assert removed == NOTHING | {"uploads": 1}
    assert await count(db, "package_versions") == 0
    assert await count(db, "snapshots") == 1  # the drawn one
    assert await count(db, "suites") == 1
    assert await count(db, "packages") == 1


async def test_retention__hundreds_of_uploads_go_over_several_batches(db: asyncpg.Pool, alice: Caller):
    first = await upload(db, alice, days_ago=100)
    await db.execute(
        """
        WITH files AS (
          INSERT INTO snapshots (id, archive, archive_sha256, file_count, created_at)
          SELECT LPAD(n::TEXT, 64, '0'), 'bytes', LPAD(n::TEXT, 64, '0'), 1, NOW() - INTERVAL '100 days'
          FROM GENERATE_SERIES(1, 1050) n RETURNING id
        )
        INSERT INTO package_versions (package_id, version, snapshot_id, manifest, suite_id, published_by, published_at)
        SELECT v.package_id, '0.0.0-snapshot.' || RIGHT(files.id, 12), files.id, '{}', v.suite_id, v.published_by,
          NOW() - INTERVAL '100 days'
        FROM files, package_versions v WHERE v.snapshot_id = $1
        """,
        first,
    )

    assert await clean_up(db, KEEP) == NOTHING | {"uploads": 1051}

    assert await count(db, "package_versions") == 0
    assert await count(db, "snapshots") == 1


async def test_retention__files_that_an_old_job_used_are_emptied_and_filled_when_sent_again(
    db: asyncpg.Pool, alice: Caller
):
    snapshot = await upload(db, alice, days_ago=200)
    await jobs_of(db, alice, days_ago=91, snapshot_id=snapshot)

    await clean_up(db, KEEP)

    assert await packages.read_archive(db, snapshot) == b""
    assert await count(db, "package_versions") == 0

    again = await keep_snapshot(db, alice, archive=an_archive())

    assert again.snapshot_id == snapshot
    assert again.created
    assert await packages.read_archive(db, snapshot) == an_archive()


@pytest.mark.parametrize(("days_ago", "status"), [(89, "completed"), (0, "failed"), (200, "queued"), (200, "running")])
async def test_retention__an_upload_stays_while_a_job_needs_it(
    db: asyncpg.Pool, alice: Caller, days_ago: int, status: str
):
    snapshot = await upload(db, alice, days_ago=300)
    await jobs_of(db, alice, days_ago=days_ago, status=status, snapshot_id=snapshot)

    removed = await clean_up(db, KEEP)

    assert removed is not None
    assert removed["uploads"] == 0
    assert await packages.read_archive(db, snapshot) == an_archive()


async def test_retention__sending_an_old_folder_again_keeps_it_and_makes_it_the_newest(db: asyncpg.Pool, alice: Caller):
    older = await upload(db, alice, days_ago=100)
    newer = await upload(db, alice, days_ago=95, text="Another.")

    assert not (await keep_snapshot(db, alice, archive=an_archive())).created
    await clean_up(db, KEEP)

    versions = await db.fetch("SELECT snapshot_id FROM package_versions ORDER BY published_at DESC")
    assert [row["snapshot_id"] for row in versions] == [older]
    assert await packages.read_archive(db, newer) is None


async def test_retention__published_versions_stay_with_files_that_uploads_share(db: asyncpg.Pool, alice: Caller):
    name = f"@{alice.username}/kept"
    await publish_package(db, alice, archive=an_archive(name))
    snapshot = await upload(db, alice, name=name)
    bob = await an_account(db)
    await upload(db, bob, name=name)
    await age_upload(db, snapshot, days_ago=1000)
    await db.execute("UPDATE package_versions SET published_at = NOW() - INTERVAL '1000 days'")

    removed = await clean_up(db, KEEP)

    assert removed == NOTHING | {"uploads": 2}
    assert [row["version"] for row in await db.fetch("SELECT version FROM package_versions")] == ["1.0.0"]
    assert await packages.read_archive(db, snapshot) == an_archive(name)


async def test_retention__a_package_with_a_stored_suite_or_another_upload_stays(db: asyncpg.Pool, alice: Caller):
    await upload(db, alice, days_ago=100, name="stored")
    stored = await db.fetchval("SELECT id FROM packages WHERE name = 'stored'")
    await db.execute(
        "INSERT INTO package_suites (package_id, suite_id, stored_by) VALUES ($1, $2, $3)", stored, "b" * 64, alice.id
    )
    await upload(db, alice, days_ago=100, name="busy")
    await upload(db, alice, name="busy", text="Young.")

    await clean_up(db, KEEP)

    names = await db.fetch("SELECT name FROM packages ORDER BY name")
    assert [row["name"] for row in names] == ["busy", "drawn", "stored"]
    assert await count(db, "package_versions") == 1


async def test_retention__of_ten_workers_at_once_one_has_the_turn(db: asyncpg.Pool, alice: Caller):
    await jobs_of(db, alice, count=200, days_ago=31)

    done = await asyncio.gather(*(clean_up(db, KEEP) for _ in range(10)))

    assert [removed for removed in done if removed is not None] == [NOTHING | {"trials": 400}]


async def test_retention__the_turn_comes_again_when_it_is_due(db: asyncpg.Pool):
    assert await take_turn(db, "retention", every_seconds=300)
    assert not await take_turn(db, "retention", every_seconds=300)
    assert await take_turn(db, "another chore", every_seconds=300)

    await db.execute("UPDATE chores SET due_at = NOW() - INTERVAL '1 second' WHERE name = 'retention'")

    assert await take_turn(db, "retention", every_seconds=300)


async def test_retention__what_the_time_does_not_allow_is_left_for_the_next_turn(db: asyncpg.Pool, alice: Caller):
    await jobs_of(db, alice, count=10, days_ago=31)

    assert await clean_up(db, KEEP, every_seconds=0, budget_seconds=0) == NOTHING
    assert await clean_up(db, KEEP, every_seconds=0) == NOTHING | {"trials": 20}


async def test_retention__rows_that_somebody_holds_are_passed_by(db: asyncpg.Pool, alice: Caller):
    old = await jobs_of(db, alice, count=10, days_ago=400)
    snapshot = await upload(db, alice, days_ago=100)

    async with db.acquire() as holder, holder.transaction():
        await holder.execute("SELECT FROM trials WHERE job_id = $1 FOR UPDATE", old[0])
        await holder.execute("SELECT FROM snapshots WHERE id = $1 FOR KEY SHARE", snapshot)
        removed = await asyncio.wait_for(clean_up(db, KEEP), 5)

    assert removed == NOTHING | {"trials": 18, "outcomes": 10, "uploads": 1}
    assert await count(db, "trials") == 2


async def test_retention__uploads_and_clean_up_side_by_side_lose_nothing(db: asyncpg.Pool, alice: Caller):
    """Every upload that was answered can be run at that moment, whatever the clean-up does meanwhile."""
    archives = [an_archive(text=f"Text {number}.") for number in range(5)]
    over = False

    async def clean() -> None:
        while not over:
            await db.execute("UPDATE package_versions SET published_at = NOW() - INTERVAL '2 days'")
            await db.execute("UPDATE snapshots SET created_at = NOW() - INTERVAL '2 days'")
            await db.execute("UPDATE suites SET created_at = NOW() - INTERVAL '2 days'")
            await clean_up(db, Keep(uploads_days=1), every_seconds=0)

    async def send(archive: bytes) -> None:
        for _ in range(20):
            async with asyncio.timeout(10):
                await keep_snapshot(db, alice, archive=archive)

    cleaning = asyncio.create_task(clean())
    await asyncio.gather(*(send(archive) for archive in archives))
    over = True
    await cleaning

    kept = [await keep_snapshot(db, alice, archive=archive) for archive in archives]
    assert [await packages.read_archive(db, snapshot.snapshot_id) for snapshot in kept] == archives


async def test_retention__the_loop_cleans_up_by_itself_and_survives_a_database_that_refuses(
    db: asyncpg.Pool, alice: Caller
):
    await jobs_of(db, alice, count=3, days_ago=31)
    await db.execute("ALTER TABLE chores RENAME TO away")
    loop = asyncio.create_task(keep_clean(db, KEEP, look_seconds=0.01))
    await asyncio.sleep(0.1)

    await db.execute("ALTER TABLE away RENAME TO chores")

    async with asyncio.timeout(5):
        while await count(db, "trials"):
            await asyncio.sleep(0.01)
    loop.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loop


@pytest.mark.parametrize(
    "statement",
    ["delete_trials", "delete_outcomes", "delete_idempotency_keys", "delete_body_hashes", "delete_sessions"],
)
async def test_retention__D8_finds_the_old_by_an_index_without_reading_the_young(
    db: asyncpg.Pool, alice: Caller, statement: str
):
    from server.store.retention import SQL

    [job] = await jobs_of(db, alice)
    await db.execute(
        "INSERT INTO trials (job_id, case_index, model, repeat_index, state, body, fence)"
        " SELECT $1, n, 'm', 0, 'passed', '{}', 1 FROM GENERATE_SERIES(10, 5000) n",
        job,
    )
    await db.execute(
        "INSERT INTO submissions (caller_id, key, request_sha256, job_id)"
        " SELECT $1, kind || n, '', $2 FROM GENERATE_SERIES(1, 5000) n, UNNEST(ARRAY['key:', 'body:']) kind",
        alice.id,
        job,
    )
    await db.execute(
        "INSERT INTO access_tokens (user_id, kind, token_hash, name, expires_at)"
        " SELECT $1, 'session', n, '', NOW() + INTERVAL '1 hour' FROM GENERATE_SERIES(1, 5000) n",
        alice.id,
    )
    await jobs_of(db, alice, count=3000)
    await db.execute("ANALYZE")

    values = (30, 1000) if "$2" in SQL[statement] else (1000,)
    async with db.acquire() as connection:
        plan = "\n".join(row[0] for row in await connection.fetch("EXPLAIN " + SQL[statement], *values))

    age = {
        "delete_trials": "trials_age",
        "delete_outcomes": "job_outcomes_age",
        "delete_idempotency_keys": "submissions_key_age",
        "delete_body_hashes": "submissions_body_age",
        "delete_sessions": "access_tokens_session_end",
    }
    assert f"using {age[statement]}" in plan or f"on {age[statement]}" in plan, plan


def test_settings__say_how_long_things_are_kept():
    assert what_to_keep(read_settings({})) == Keep()
    assert what_to_keep(
        read_settings(
            {
                "PRPM_KEEP_TRIALS_DAYS": "1",
                "PRPM_KEEP_OUTCOMES_DAYS": "2",
                "PRPM_KEEP_UPLOADS_DAYS": "3",
                "PRPM_KEEP_KEYS_DAYS": "4",
            }
        )
    ) == Keep(trials_days=1, outcomes_days=2, uploads_days=3, keys_days=4)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "forever"])
def test_settings__a_key_is_kept_for_a_day_at_least(value: str):
    with pytest.raises(InvalidSettings, match="PRPM_KEEP_KEYS_DAYS"):
        read_settings({"PRPM_KEEP_KEYS_DAYS": value})
