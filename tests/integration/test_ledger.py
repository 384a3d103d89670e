"""The ledger explains every count, over real HTTP, and in any order of pages."""

from __future__ import annotations

import asyncio
import re
import uuid
from datetime import date

import asyncpg
import pytest

from server.domain.accounts import Caller
from server.domain.errors import InvalidRequest
from server.services.accounts import create_account
from server.services.usage import read_ledger, read_usage
from tests.packages import PASSING_SUITE, an_archive
from tests.service import Account, Service, finished_job

LEDGER = "/api/v1/users/me/test-usage/ledger"


def run(account: Account, *, model: str = "echo", **body) -> str:
    """A finished job's id."""
    snapshot = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(), headers={"Content-Type": "application/gzip"}
    ).json()
    answer = account.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": snapshot["snapshot_id"], "suite": PASSING_SUITE, "models": [model], **body},
    )
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    finished_job(account, job_id)
    return job_id


def test_ledger__explains_the_count_after_charges_and_a_refund(service: Service):
    alice = service.an_account()
    charged = run(alice)
    given_back = run(alice, model="broken")

    page = alice.client.get(LEDGER).json()

    usage = alice.client.get("/api/v1/users/me/test-usage").json()
    assert usage["current_month"]["test_runs_count"] == 1
    assert page["totals"] == {"charges": 2, "refunds": 1, "cached": 0, "runs": 1}
    assert "next_cursor" not in page
    assert [(entry["kind"], entry["runs"], entry["job_id"]) for entry in page["entries"]] == [
        ("refund", -1, given_back),
        ("charge", 1, given_back),
        ("charge", 1, charged),
    ]
    refund, _, charge = page["entries"]
    assert refund["reason"] == "no_verdict"
    assert charge["reason"] == "run accepted"
    assert charge["package"]["name"] == "sample"
    assert re.fullmatch(r"0\.0\.0-snapshot\.[0-9a-f]{12}", charge["package"]["version"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", charge["at"])
    assert charge["month"] == page["month"] == refund["month"]


def test_ledger__an_equal_submit_adds_nothing(service: Service):
    alice = service.an_account()

    assert run(alice) == run(alice)

    assert alice.client.get(LEDGER).json()["totals"] == {"charges": 1, "refunds": 0, "cached": 0, "runs": 1}


def test_ledger__A14_shows_nothing_of_other_accounts(service: Service):
    alice, mallory = service.an_account(), service.an_account(is_admin=True)
    run(alice)

    page = mallory.client.get(LEDGER).json()

    assert page["entries"] == []
    assert page["totals"] == {"charges": 0, "refunds": 0, "cached": 0, "runs": 0}


def test_ledger__A1_without_a_good_token_is_401(service: Service):
    visitor = service.visitor()

    assert visitor.get(LEDGER).status_code == 401
    assert visitor.get(LEDGER, headers={"Authorization": "Bearer prpm_nonsense"}).status_code == 401


@pytest.mark.parametrize(
    "query",
    [
        "month=2026-13", "month=2026-1", "month=0000-01", "month=november", "month=2026-11-01", "month=", "month=%00",
        "month=٢٠٢٦-11", "limit=0", "limit=101", "limit=ten", "limit=1e999", "cursor=abc", "cursor=-1", "cursor=",
        "cursor=9999999999999999999999", "cursor=1%20OR%201=1",
    ],
)  # fmt: skip
def test_ledger__I1_a_query_that_cannot_be_is_400(service: Service, query: str):
    answer = service.an_account().client.get(f"{LEDGER}?{query}")

    assert answer.status_code == 400, answer.text
    assert set(answer.json()) <= {"error", "code", "details"}


def test_ledger__is_described_with_its_parameters(service: Service):
    described = service.visitor().get("/docs/openapi.json").json()["paths"][LEDGER]["get"]

    assert {parameter["name"] for parameter in described["parameters"]} == {"month", "cursor", "limit", "account"}
    assert {"200", "400", "401"} <= set(described["responses"])


@pytest.fixture
async def alice(db: asyncpg.Pool) -> Caller:
    """An account with a package; jobs are drawn by `entries`."""
    account = await create_account(db, f"user-{uuid.uuid4().hex[:8]}", tier="pro")
    await db.execute(
        "INSERT INTO packages (id, owner_id, name, format, is_published) VALUES ($1, $1, 'p', 'cursor', FALSE)",
        account.id,
    )
    await db.execute("INSERT INTO snapshots (id, archive, archive_sha256, file_count) VALUES ($1, '', $1, 0)", "a" * 64)
    await db.execute("INSERT INTO suites (id, body) VALUES ($1, '{}')", "b" * 64)
    return Caller(
        id=account.id,
        asker_id=account.id,
        scopes=("write:packages",),
        kind="user",
        username=account.username,
        email=None,
        tier="pro",
        is_admin=False,
        token_kind="api",
    )


async def entries(db: asyncpg.Pool, caller: Caller, month: str, *, count: int, kind: str = "charge") -> None:
    """That many ledger entries, each of a job of its own (a refund brings its charge)."""
    await db.execute(
        """
        WITH job AS (
          INSERT INTO test_jobs (user_id, submitted_by, package_id, package_version, snapshot_id, suite_id,
            suite_source, models_requested, framework, trials_total, start_key, submit_position, submit_wait_seconds,
            submit_runs_used, submit_tier, status)
          SELECT $1, $1, $1, '1.0.0', REPEAT('a', 64), REPEAT('b', 64), 'package', '{echo}', 'litellm', 1, NOW(),
            1, 0, 1, 'pro', 'completed'
          FROM GENERATE_SERIES(1, $3::INT) RETURNING id
        )
        INSERT INTO usage_ledger (job_id, user_id, month, kind, runs, reason)
        SELECT job.id, $1, $2, k.kind, k.runs, 'drawn' FROM job CROSS JOIN UNNEST(
          CASE $4 WHEN 'refund' THEN ARRAY['charge', 'refund'] ELSE ARRAY[$4] END,
          CASE $4 WHEN 'refund' THEN ARRAY[1, -1] WHEN 'charge' THEN ARRAY[1] ELSE ARRAY[0] END
        ) k (kind, runs)
        """,
        caller.id, date.fromisoformat(f"{month}-01"), count, kind,
    )  # fmt: skip


async def test_ledger__pages_hold_every_entry_of_the_month_once_newest_first(db: asyncpg.Pool, alice: Caller):
    await entries(db, alice, "2026-03", count=120)
    await entries(db, alice, "2026-03", count=30, kind="refund")
    await entries(db, alice, "2026-03", count=7, kind="cached")
    await entries(db, alice, "2026-04", count=5)

    seen: list[int] = []
    cursor = None
    for _ in range(4):
        page = await read_ledger(db, alice, month="2026-03", cursor=cursor, limit=50)
        seen += [entry.id for entry in page.entries]
        cursor = str(seen[-1])
        assert (page.totals.charges, page.totals.refunds, page.totals.cached, page.totals.runs) == (150, 30, 7, 120)
        # What comes in meanwhile belongs to the first page and moves no other.
        if page.has_more:
            await entries(db, alice, "2026-04", count=1)

    assert not page.has_more
    assert len(seen) == len(set(seen)) == 187
    assert seen == sorted(seen, reverse=True)


async def test_ledger__a_full_last_page_has_no_next(db: asyncpg.Pool, alice: Caller):
    await entries(db, alice, "2026-03", count=10)

    page = await read_ledger(db, alice, month="2026-03", cursor=None, limit=10)

    assert len(page.entries) == 10
    assert not page.has_more


async def test_ledger__no_month_means_the_databases_current_one(db: asyncpg.Pool, alice: Caller):
    now = await db.fetchval("SELECT TO_CHAR(NOW() AT TIME ZONE 'UTC', 'YYYY-MM')")
    await entries(db, alice, now, count=3)
    await entries(db, alice, "2020-01", count=4)

    page = await read_ledger(db, alice, month=None, cursor=None, limit=50)

    assert f"{page.month:%Y-%m}" == now
    assert page.totals.runs == 3


async def test_ledger__totals_equal_the_count_while_entries_come_in(db: asyncpg.Pool, alice: Caller):
    month = await db.fetchval("SELECT DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE")

    async def submit() -> None:
        async with db.acquire() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO user_test_usage AS u (user_id, month, test_runs_count) VALUES ($1, $2, 1)"
                " ON CONFLICT (user_id, month) DO UPDATE SET test_runs_count = u.test_runs_count + 1",
                alice.id,
                month,
            )
            await entries(connection, alice, f"{month:%Y-%m}", count=1)

    async def look() -> None:
        page = await read_ledger(db, alice, month=None, cursor=None, limit=100)
        assert page.totals.runs == sum(entry.runs for entry in page.entries)

    await asyncio.gather(*(submit() for _ in range(20)), *(look() for _ in range(20)))

    page = await read_ledger(db, alice, month=None, cursor=None, limit=100)
    assert page.totals.runs == (await read_usage(db, alice)).test_runs_count == 20


@pytest.mark.parametrize("month", ["2026-00", "26-11", "2026-11 ", "2026_11", ""])
async def test_ledger__I1_a_month_that_cannot_be_is_refused(db: asyncpg.Pool, alice: Caller, month: str):
    with pytest.raises(InvalidRequest, match="2026-11"):
        await read_ledger(db, alice, month=month, cursor=None, limit=1)
