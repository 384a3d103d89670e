"""Quota and money at the turn of a month, by the database's own clock in UTC, which these tests hold."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import asyncpg
import pytest

from chaos.programs import ToolMissing, find_faketime
from server.domain.jobs import JobEnd, Refused, Submission
from server.domain.money import NANO, MoneyWish
from server.embedded import start_postgres
from server.services.usage import read_ledger
from server.store import accounts, jobs
from server.store.accounts import read_caller_by_id
from server.store.migrations import migrate
from server.store.money import settle_money
from tests.conftest import _execute, with_database
from tests.queue import a_new_job, an_account

LAST_SECOND, FIRST_SECOND = "2026-11-30 23:59:59", "2026-12-01 00:00:00"
NOVEMBER, DECEMBER = date(2026, 11, 1), date(2026, 12, 1)


class Clock:
    """The wall clock of a PostgreSQL; it stands still, so that a slow machine passes no midnight."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def shows(self, moment: str) -> None:
        self._file.write_text(moment + "\n")


@pytest.fixture(scope="module")
def faked(server_folder: Path) -> Iterator[tuple[str, Clock]]:
    """An own PostgreSQL and its clock."""
    try:
        library = find_faketime()
    except ToolMissing as missing:
        pytest.skip(str(missing))
    folder = server_folder / "clock"
    folder.mkdir()
    clock = Clock(folder / "now")
    clock.shows(LAST_SECOND)
    running = start_postgres(
        folder / "pg",
        durable=False,
        environment={
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(folder / "now"),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        },
    )
    yield running.dsn, clock
    running.stop()


@pytest.fixture
async def db_and_clock(faked: tuple[str, Clock]) -> AsyncIterator[tuple[asyncpg.Pool, Clock]]:
    """A fresh, migrated database in the last second of November."""
    admin_dsn, clock = faked
    clock.shows(LAST_SECOND)
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    await _execute(admin_dsn, f'CREATE DATABASE "{name}"')
    dsn = with_database(admin_dsn, name)
    await migrate(dsn)
    async with asyncpg.create_pool(dsn, min_size=0, max_size=20) as db:
        yield db, clock
    await _execute(admin_dsn, f'DROP DATABASE "{name}" WITH (FORCE)')


async def submit(db: asyncpg.Pool, account: uuid.UUID) -> Submission | Refused:
    (answer,) = await jobs.submit_jobs(db, [a_new_job(account)])
    assert isinstance(answer, Submission | Refused)
    return answer


async def months_of(db: asyncpg.Pool, account: uuid.UUID) -> dict[date, tuple[int, Decimal, Decimal]]:
    rows = await db.fetch(
        "SELECT month, test_runs_count, cost_usd, held_usd FROM user_test_usage WHERE user_id = $1", account
    )
    return {row["month"]: (row["test_runs_count"], row["cost_usd"], row["held_usd"]) for row in rows}


async def test_month__Q3_the_last_second_counts_in_the_old_and_midnight_in_the_new(
    db_and_clock: tuple[asyncpg.Pool, Clock],
):
    db, clock = db_and_clock
    account = await an_account(db)

    await submit(db, account)
    assert (await accounts.read_usage(db, account)).resets_on == DECEMBER
    clock.shows(FIRST_SECOND)
    await submit(db, account)
    await submit(db, account)

    assert {month: runs for month, (runs, _, _) in (await months_of(db, account)).items()} == {NOVEMBER: 1, DECEMBER: 2}
    usage = await accounts.read_usage(db, account)
    assert (usage.test_runs_count, usage.resets_on) == (2, date(2027, 1, 1))
    caller = await read_caller_by_id(db, account)
    assert caller is not None
    ledger = await read_ledger(db, caller, month=None, cursor=None, limit=10)
    assert (ledger.month, ledger.totals.runs) == (DECEMBER, 2)


async def test_month__Q3_a_full_month_is_open_again_at_midnight(db_and_clock: tuple[asyncpg.Pool, Clock]):
    db, clock = db_and_clock
    account = await an_account(db)
    await db.execute(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count) VALUES ($1, $2, 100)", account, NOVEMBER
    )

    refused = await submit(db, account)
    clock.shows(FIRST_SECOND)
    accepted = await submit(db, account)

    assert isinstance(refused, Refused)
    assert refused.reason == "quota_exceeded"
    assert isinstance(accepted, Submission)
    assert (accepted.runs_used, accepted.run_limit) == (1, 100)


async def test_month__Q4_refund_and_money_go_to_the_month_that_was_charged(db_and_clock: tuple[asyncpg.Pool, Clock]):
    db, clock = db_and_clock
    account = await an_account(db)
    await submit(db, account)
    clock.shows(FIRST_SECOND)
    await submit(db, account)
    old = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    new = await jobs.claim_job(db, "w", lease_seconds=15, job_seconds=3600)
    assert old is not None
    assert new is not None

    wish = MoneyWish(spent=NANO // 100, reserved=0, needed=NANO // 50, wanted=NANO // 50)
    assert await settle_money(db, old, wish) is not None
    assert await months_of(db, account) == {
        NOVEMBER: (1, Decimal("0.01"), Decimal("0.02")),
        DECEMBER: (1, 0, 0),
    }
    failed = JobEnd(status="failed", error_code="no_verdict", error_message="x", refund_reason="no_verdict")
    assert await jobs.finish_job(db, old, failed)
    assert await jobs.finish_job(db, new, JobEnd(status="completed", conclusion="passed", cost_usd=0.05))

    # The run is given back; what models were paid stays, in the month whose run it was.
    assert await months_of(db, account) == {
        NOVEMBER: (0, Decimal("0.01"), 0),
        DECEMBER: (1, Decimal("0.05"), 0),
    }


async def test_month__Q3_submits_across_midnight_count_once_each(db_and_clock: tuple[asyncpg.Pool, Clock]):
    db, clock = db_and_clock
    account = await an_account(db)

    async def turn() -> None:
        await asyncio.sleep(0.05)
        clock.shows(FIRST_SECOND)

    await asyncio.gather(turn(), *(submit(db, account) for _ in range(60)))
    await submit(db, account)

    rows = await db.fetch(
        "SELECT l.month, DATE_TRUNC('month', j.created_at)::DATE AS submitted FROM usage_ledger l"
        " JOIN test_jobs j ON j.id = l.job_id WHERE l.user_id = $1",
        account,
    )
    assert len(rows) == 61
    assert all(row["month"] == row["submitted"] for row in rows)
    counted = {month: runs for month, (runs, _, _) in (await months_of(db, account)).items()}
    assert counted == {month: sum(row["month"] == month for row in rows) for month in counted}
    assert sum(counted.values()) == 61
