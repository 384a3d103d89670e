"""The storm's checks of V7 and V8 see what they are for."""

from __future__ import annotations

import asyncpg
import pytest

from chaos.checks import read_checks
from tests.outbox import a_target, an_ended_job
from tests.queue import an_account

ADDRESS = "https://receiver.example/hook"


async def found(db: asyncpg.Pool) -> list[str]:
    """The checks that find something, by their first word."""
    checks = {name: text for name, text in read_checks().items() if name.startswith(("V7", "V8"))}
    assert len(checks) == 3
    return sorted([name[:2] for name, text in checks.items() if await db.fetch(text)])


@pytest.mark.parametrize(
    ("harm", "seen"),
    [
        ("SELECT 1", []),
        ("DELETE FROM outbox", ["V7"]),
        ("UPDATE test_jobs SET status = 'running', lease_until = NOW() + INTERVAL '1 h'", ["V7"]),
        ("UPDATE outbox SET next_at = NOW() - INTERVAL '2 min'", ["V8"]),
        ("UPDATE outbox SET next_at = NOW() - INTERVAL '2 min', lease_until = NOW() + INTERVAL '1 min'", []),
        ("UPDATE outbox SET next_at = NOW() + INTERVAL '1 h', created_at = NOW() - INTERVAL '73 h'", ["V8"]),
        ("UPDATE outbox SET attempts = 9", ["V8"]),
    ],
)
async def test_checks__see_a_notification_that_is_missing_or_late(db: asyncpg.Pool, harm: str, seen: list[str]):
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)
    await an_ended_job(db, alice)

    await db.execute(harm)

    assert await found(db) == seen


async def test_checks__see_an_end_that_nothing_told_of(db: asyncpg.Pool):
    await db.execute("DROP TRIGGER test_jobs_tell ON test_jobs")
    alice = await an_account(db)
    await a_target(db, alice, ADDRESS)

    await an_ended_job(db, alice)

    assert await found(db) == ["V7"]
