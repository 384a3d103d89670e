"""History in PostgreSQL: what jobs found, and what a running job is compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from evals.types import Trial
from server.domain.baselines import Base, FixedBaseline, HistoryEntry, HistoryRow, KnownPast, KnownRow
from server.domain.jobs import ClaimedJob
from server.store.queries import read_queries

SQL = read_queries("history")

# Of each question on each model. More would tell of a package that is no longer the same.
NEWEST_ROWS = 50


async def find_version_base(db: asyncpg.Pool, package: str, *, account_id: UUID, version: str | None) -> Base | None:
    """A published version that the account may see; without `version` the newest."""
    row = await db.fetchrow(SQL["find_version_base"], package, account_id, version)
    return None if row is None else Base(
        snapshot_id=row["snapshot_id"], suite_body=row["suite_body"], version=row["version"]
    )  # fmt: skip


async def find_branch_base(
    db: asyncpg.Pool, package: str, *, account_id: UUID, branch: str, repository: str | None, suite_name: str
) -> Base | None:
    """What the newest job of the branch ran."""
    row = await db.fetchrow(SQL["find_branch_base"], account_id, package, branch, repository, suite_name)
    return None if row is None else Base(
        snapshot_id=row["snapshot_id"], suite_body=row["suite_body"], repository=row["repository"]
    )  # fmt: skip


async def find_snapshot_suite(db: asyncpg.Pool, package: str, *, account_id: UUID, snapshot_id: str) -> str | None:
    """The suite in the account's files of the package, canonical JSON; None where they have none."""
    body: str | None = await db.fetchval(SQL["find_snapshot_suite"], account_id, package, snapshot_id)
    return body


async def find_job_base(db: asyncpg.Pool, job_id: UUID, *, account_id: UUID) -> tuple[UUID, Base] | None:
    """What the job ran, and the id of the one that made its trials; None for another account's."""
    row = await db.fetchrow(SQL["find_job_base"], job_id, account_id)
    if row is None:
        return None
    return row["job_id"], Base(snapshot_id=row["snapshot_id"], suite_body=row["suite_body"])


async def read_branch_past(
    db: asyncpg.Pool, package: str, *, account_id: UUID, branch_key: str, asked: Collection[tuple[str, str]]
) -> KnownPast:
    """What the branch's newest trials said of each (model, case digest)."""
    models, digests = _columns(asked)
    rows = await db.fetch(SQL["read_branch_past"], account_id, package, branch_key, models, digests, NEWEST_ROWS)
    return _known(rows)


async def read_version_past(
    db: asyncpg.Pool, package: str, *, account_id: UUID, version: str, asked: Collection[tuple[str, str]]
) -> KnownPast:
    """What the version's newest trials said of each (model, case digest)."""
    models, digests = _columns(asked)
    rows = await db.fetch(SQL["read_version_past"], account_id, package, version, models, digests, NEWEST_ROWS)
    return _known(rows)


async def read_job_past(db: asyncpg.Pool, job_id: UUID) -> KnownPast:
    """What one job's trials said."""
    return _known(await db.fetch(SQL["read_job_past"], job_id))


def _columns(asked: Collection[tuple[str, str]]) -> tuple[list[str], list[str]]:
    return [model for model, _ in asked], [digest for _, digest in asked]


def _known(rows: Sequence[asyncpg.Record]) -> KnownPast:
    if not rows:
        return KnownPast(rows=(), jobs=0)
    return KnownPast(
        rows=tuple(
            KnownRow(model=row["model"], case_digest=row["case_digest"], passed=row["passed"], failed=row["failed"])
            for row in rows
        ),
        jobs=rows[0]["jobs"],
        oldest_at=rows[0]["oldest_at"],
        newest_at=rows[0]["newest_at"],
    )


async def may_use_snapshot(db: asyncpg.Pool, snapshot_id: str, *, account_id: UUID) -> bool:
    """Whether the account may have these files run."""
    return bool(await db.fetchval(SQL["may_use_snapshot"], snapshot_id, account_id))


async def read_fixed_baseline(db: asyncpg.Pool, job_id: UUID) -> FixedBaseline | None:
    """What the job is compared with, if that was fixed."""
    body = await db.fetchval(SQL["read_fixed_baseline"], job_id)
    return None if body is None else msgspec.json.decode(body, type=FixedBaseline)


async def fix_baseline(db: asyncpg.Pool, job: ClaimedJob, baseline: FixedBaseline) -> bool:
    """Whether the lease is ours, and so it is fixed. Safe to repeat."""
    body = msgspec.json.encode(baseline).decode()
    return await db.fetchval(SQL["fix_baseline"], job.id, job.fence, body) is not None


async def expect_trials(db: asyncpg.Pool, job: ClaimedJob, trials: int) -> bool:
    """Whether the lease is ours, and so readers know how many trials there will be. Safe to repeat."""
    return await db.fetchval(SQL["expect_trials"], job.id, job.fence, trials) is not None


async def store_base_trials(db: asyncpg.Pool, job: ClaimedJob, trials: Sequence[Trial]) -> bool:
    """Whether the lease is ours, and so the trials are kept. Safe to repeat."""
    holder = await db.fetchval(
        SQL["store_base_trials"],
        job.id,
        job.fence,
        [trial.case_index for trial in trials],
        [trial.model for trial in trials],
        [trial.repeat_index for trial in trials],
        [msgspec.json.encode(trial).decode() for trial in trials],
    )
    return holder is not None


async def read_base_trials(db: asyncpg.Pool, job: ClaimedJob) -> list[Trial]:
    """What is known of the package as it was."""
    rows = await db.fetch(SQL["read_base_trials"], job.id)
    return [msgspec.json.decode(row["body"], type=Trial) for row in rows]


async def list_history(
    db: asyncpg.Pool,
    package: str,
    *,
    account_id: UUID,
    branch: str | None,
    after: tuple[datetime, UUID] | None,
    limit: int,
) -> list[HistoryEntry]:
    """The package's jobs in the account's history, newest first, from behind `after` on."""
    ended_at, job_id = after or (None, None)
    rows = await db.fetch(SQL["list_history"], account_id, package, branch, ended_at, job_id, limit)
    return [
        HistoryEntry(
            job_id=row["job_id"],
            suite_name=row["suite_name"],
            branch=row["branch"],
            version=row["version"],
            ended_at=row["ended_at"],
            rows=msgspec.json.decode(row["rows"] or "[]", type=tuple[HistoryRow, ...]),
        )
        for row in rows
    ]
