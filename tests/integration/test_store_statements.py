"""Every statement of the store is understood by PostgreSQL, and the migrations leave what schema.sql says."""

from __future__ import annotations

import asyncio
import uuid

import asyncpg
import pytest

from server.store.migrations import FOLDER, CannotMigrate, is_current, migrate
from server.store.queries import nouns, read_queries
from tests.conftest import _execute, with_database

STATEMENTS = [(noun, name) for noun in nouns() for name in read_queries(noun)]

DESCRIBE = """
SELECT 'column' AS kind, c.table_name || '.' || c.column_name AS name,
  CONCAT_WS(' ', c.data_type, c.character_maximum_length, c.numeric_precision, c.numeric_scale, c.is_nullable,
    c.column_default, c.is_identity) AS definition
FROM information_schema.columns c WHERE c.table_schema = 'public' AND c.table_name <> 'schema_migrations'
UNION ALL
SELECT 'constraint', t.relname || '.' || k.conname, PG_GET_CONSTRAINTDEF(k.oid)
FROM pg_constraint k JOIN pg_class t ON t.oid = k.conrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = 'public' AND t.relname <> 'schema_migrations'
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'schema_migrations'
UNION ALL
SELECT 'trigger', tgname, PG_GET_TRIGGERDEF(oid) FROM pg_trigger WHERE NOT tgisinternal
UNION ALL
SELECT 'function', p.proname, PG_GET_FUNCTIONDEF(p.oid)
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'
UNION ALL
SELECT 'trigger', t.relname || '.' || g.tgname, PG_GET_TRIGGERDEF(g.oid)
FROM pg_trigger g JOIN pg_class t ON t.oid = g.tgrelid JOIN pg_namespace n ON n.oid = t.relnamespace
WHERE n.nspname = 'public' AND NOT g.tgisinternal
ORDER BY 1, 2, 3
"""


@pytest.fixture
async def empty_dsn(admin_dsn: str):
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    await _execute(admin_dsn, f'CREATE DATABASE "{name}"')
    yield with_database(admin_dsn, name)
    await _execute(admin_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def describe(dsn: str) -> list[tuple[str, str, str]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(DESCRIBE)]
    finally:
        await connection.close()


@pytest.mark.parametrize(("noun", "name"), STATEMENTS)
async def test_statement__is_prepared(template_dsn: str, noun: str, name: str):
    connection = await asyncpg.connect(template_dsn)
    try:
        await connection.prepare(read_queries(noun)[name])
    finally:
        await connection.close()


async def test_migrations__leave_what_schema_sql_says(dsn: str, empty_dsn: str):
    await _execute(empty_dsn, (FOLDER.parent / "schema.sql").read_text())

    assert await describe(dsn) == await describe(empty_dsn)


async def test_migrations__go_down_to_nothing_and_up_again(empty_dsn: str):
    assert await migrate(empty_dsn) != []
    assert await migrate(empty_dsn) == []

    assert await migrate(empty_dsn, target=0) != []
    assert await describe(empty_dsn) == []

    assert await migrate(empty_dsn) != []


async def test_migrations__run_by_four_at_once_are_applied_once(empty_dsn: str):
    done = await asyncio.gather(*(migrate(empty_dsn) for _ in range(4)))

    assert sorted(len(steps) for steps in done)[:3] == [0, 0, 0]
    connection = await asyncpg.connect(empty_dsn)
    assert await is_current(connection)
    await connection.close()


async def test_migrations__an_edited_file_is_refused(empty_dsn: str):
    await migrate(empty_dsn)
    await _execute(empty_dsn, "UPDATE schema_migrations SET checksum = 'other'")

    with pytest.raises(CannotMigrate, match="edited after they were applied"):
        await migrate(empty_dsn)


async def test_migrations__a_database_from_the_future_is_refused(empty_dsn: str):
    await migrate(empty_dsn)
    await _execute(empty_dsn, "INSERT INTO schema_migrations VALUES (9999, 'later', 'x')")

    with pytest.raises(CannotMigrate, match="Run the newer version"):
        await migrate(empty_dsn)


async def test_migrations__a_failing_file_leaves_nothing(empty_dsn: str, tmp_path):
    (tmp_path / "0001_good.up.sql").write_text(
        "CREATE TABLE tiers (name TEXT PRIMARY KEY, runs_per_month INT, concurrent_jobs INT, start_bonus INTERVAL);"
    )
    (tmp_path / "0002_bad.up.sql").write_text("CREATE TABLE half (id INT); SELECT nonsense;")

    with pytest.raises(asyncpg.PostgresError):
        await migrate(empty_dsn, folder=tmp_path)

    assert [name for kind, name, _ in await describe(empty_dsn) if kind == "column" and "half" in name] == []


async def test_can_run_test__answers_true_or_false_never_null(db: asyncpg.Pool):
    plus = await db.fetchval("INSERT INTO users (username, subscription_tier) VALUES ('plus', 'plus') RETURNING id")
    free = await db.fetchval("INSERT INTO users (username) VALUES ('free') RETURNING id")
    used_up = await db.fetchval("INSERT INTO users (username, subscription_tier) VALUES ('used', 'plus') RETURNING id")
    await db.execute(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 100)",
        used_up,
    )

    answers = [await db.fetchval("SELECT can_run_test($1)", who) for who in (plus, free, used_up, uuid.uuid4())]

    assert answers == [True, False, False, False]
