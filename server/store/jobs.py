"""Jobs in PostgreSQL: one verb a change of state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg

from server.domain.errors import QuotaExceeded, Unavailable
from server.domain.jobs import (
    ClaimedJob,
    EqualSubmit,
    JobEnd,
    JobPlace,
    JobRequest,
    JobView,
    ListedJob,
    NewJob,
    Refused,
    SentSuite,
    Submission,
)
from server.store.queries import read_queries

SQL = read_queries("jobs")

# Raised by refuse() in the schema.
REFUSED = "PR001"


async def submit_job(db: asyncpg.Pool, job: NewJob) -> Submission | EqualSubmit | Refused | None:
    """The kept and charged job, or why nothing was kept. None: the credential stands for nobody.

    Raises QuotaExceeded, or Unavailable when the package is just being removed, with nothing kept.
    """
    suite = job.suite
    try:
        row = await db.fetchrow(
            SQL["submit_job"],
            job.id, job.credential.account_id, job.credential.token_hash, job.key, job.request_sha256, job.force,
            job.package.id, job.package.name, job.package_version, job.snapshot_id,
            suite.id if suite else None, suite.body if suite else None, suite.trials if suite else None,
            job.models, job.framework, job.upload_results, job.verify_results,
        )  # fmt: skip
    except asyncpg.PostgresError as error:
        if error.sqlstate == REFUSED:
            raise QuotaExceeded("This month's test runs are used up.") from None
        if isinstance(error, asyncpg.ForeignKeyViolationError):
            # The clean-up took the old upload in this very moment.
            raise Unavailable("The package was being cleaned up at this moment. Send the request again.") from None
        raise
    if row is None:
        return None
    if row["refusal"] is not None:
        package = f"{row['name']}@{row['version']}" if row["name"] else None
        return Refused(
            reason=row["refusal"],
            tier=row["tier"],
            package=package,
            suite_error=row["suite_error"],
            trials=row["trials"],
        )
    if row["job_id"] is None:
        return EqualSubmit(account_id=row["account_id"], key=row["key"])
    return _submission(row, request_sha256=job.request_sha256)


async def read_submission(db: asyncpg.Pool, caller_id: UUID, key: str) -> Submission | None:
    """What the earlier submit under this key was answered."""
    row = await db.fetchrow(SQL["read_submission"], caller_id, key)
    return _submission(row, request_sha256=row["request_sha256"]) if row else None


def _submission(row: asyncpg.Record, *, request_sha256: str) -> Submission:
    return Submission(
        job_id=row["job_id"],
        position=row["submit_position"],
        wait_seconds=row["submit_wait_seconds"],
        runs_used=row["submit_runs_used"],
        run_limit=row["run_limit"],
        tier=row["tier"],
        request_sha256=request_sha256,
    )


async def read_job(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID | None) -> JobView | None:
    """The job, if `seen_by` may see it (None: an administrator)."""
    found = await read_jobs(db, [job_id], seen_by=seen_by)
    return found[0] if found else None


async def read_jobs(db: asyncpg.Pool, job_ids: Sequence[UUID], *, seen_by: UUID | None) -> list[JobView]:
    """Those of the jobs that `seen_by` may see (None: an administrator), in no order."""
    return [_job_view(row) for row in await db.fetch(SQL["read_jobs"], job_ids, seen_by)]


def _job_view(row: asyncpg.Record) -> JobView:
    return JobView(
        id=row["id"],
        fence=row["fence"] or 0,
        attempt=row["attempt"],
        status=row["status"],
        package_id=row["package_id"],
        package_name=row["package_name"],
        package_version=row["package_version"],
        models=row["models_requested"],
        plugins=row["plugins_requested"],
        framework=row["framework"],
        suite_source=row["suite_source"],
        conclusion=row["conclusion"],
        results=row["results"],
        error_code=row["error_code"],
        error_message=row["error_message"],
        test_result_id=row["test_result_id"],
        trials_total=row["trials_total"],
        trials_finished=row["finished"],
        trials_passed=row["passed"],
        trials_failed=row["failed"],
        trials_errored=row["errored"],
        position=row["position"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
    )


async def read_request(db: asyncpg.Pool, job_id: UUID, *, account_id: UUID) -> JobRequest | None:
    """What the job was asked to do, if it is this account's."""
    row = await db.fetchrow(SQL["read_request"], job_id, account_id)
    if row is None:
        return None
    return JobRequest(
        job_id=row["id"],
        package_id=row["package_id"],
        package_version=row["package_version"],
        snapshot_id=row["snapshot_id"],
        suite=SentSuite(id=row["suite_id"], body=row["suite_body"], trials=row["suite_trials"]),
        suite_is_current=row["suite_is_current"],
        models=row["models_requested"],
        framework=row["framework"],
        upload_results=row["upload_results"],
        verify_results=row["verify_results"],
    )


async def list_jobs(
    db: asyncpg.Pool, account_id: UUID, *, status: str | None, package: str | None, after: JobPlace | None, limit: int
) -> list[ListedJob]:
    """The account's jobs, newest first, from behind `after` on."""
    created_at, job_id = after or (None, None)
    rows = await db.fetch(SQL["list_jobs"], account_id, status, package, created_at, job_id, limit)
    return [
        ListedJob(
            id=row["id"],
            status=row["status"],
            package_id=row["package_id"],
            package_name=row["package_name"],
            package_version=row["package_version"],
            models=row["models_requested"],
            conclusion=row["conclusion"],
            results=row["results"],
            error_code=row["error_code"],
            error_message=row["error_message"],
            created_at=row["created_at"],
            started_at=row["started_at"],
            completed_at=row["completed_at"],
        )
        for row in rows
    ]


async def read_outcome(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID | None) -> asyncpg.Record | None:
    """`status`, `error_message` and `outcome` (JSON text or None) of a job that `seen_by` may see."""
    return await db.fetchrow(SQL["read_outcome"], job_id, seen_by)


async def claim_job(db: asyncpg.Pool, owner: str, *, lease_seconds: float, job_seconds: float) -> ClaimedJob | None:
    """The next job that may start, now held by `owner`; None when there is none.

    One short transaction an account: its row is locked first, and only a new statement counts its leases.
    A single statement was measured to break the limit, as it counts in the snapshot from before the lock.
    """
    async with db.acquire() as connection:
        for account in await connection.fetch(SQL["list_claimable_accounts"], 10):
            asked_at = time.monotonic()
            async with connection.transaction():
                if await connection.fetchval(SQL["lock_account"], account["user_id"]) is None:
                    continue
                row = await connection.fetchrow(SQL["claim_job"], account["user_id"], owner, lease_seconds, job_seconds)
            if row is not None:
                return ClaimedJob(
                    id=row["id"],
                    fence=row["fence"],
                    attempt=row["attempt"],
                    package_name=row["package_name"],
                    package_version=row["package_version"],
                    format=row["format"],
                    subtype=row["subtype"],
                    snapshot_id=row["snapshot_id"],
                    suite_body=row["suite_body"],
                    models=tuple(row["models_requested"]),
                    framework=row["framework"],
                    seconds_left=row["seconds_left"],
                    asked_at=asked_at,
                )
    return None


async def extend_lease(db: asyncpg.Pool, job: ClaimedJob, *, lease_seconds: float) -> bool:
    """Whether the job is still ours, for `lease_seconds` from now."""
    return await db.fetchval(SQL["extend_lease"], job.id, job.fence, lease_seconds) is not None


async def release_job(db: asyncpg.Pool, job: ClaimedJob) -> bool:
    """Give the job back to the queue without spending an attempt."""
    return await db.fetchval(SQL["release_job"], job.id, job.fence) is not None


async def finish_job(db: asyncpg.Pool, job: ClaimedJob, end: JobEnd) -> bool:
    """Whether this was the job's end. False: the lease is not ours any more, and nothing was written.

    Safe to repeat after a lost answer: the second try finds the job ended.
    """
    row = await db.fetchrow(
        SQL["finish_job"],
        job.id, job.fence, end.status, end.conclusion, end.summary, end.error_code, end.error_message, end.tokens,
        Decimal(str(end.cost_usd)), end.outcome, end.refund_reason, uuid4(),
    )  # fmt: skip
    return row is not None


async def cancel_job(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID | None, code: str, message: str) -> bool:
    """Whether the job was waiting, and is over now, or runs, and its worker will end it."""
    return await db.fetchval(SQL["cancel_job"], job_id, seen_by, code, message) is not None


async def list_cancelled(db: asyncpg.Pool, job_ids: list[UUID]) -> set[UUID]:
    """Which of these running jobs somebody wants to end."""
    return {row["id"] for row in await db.fetch(SQL["list_cancelled"], job_ids)}


async def sweep_expired(
    db: asyncpg.Pool, *, most_attempts: int, code: str, message: str, tell: Callable[[UUID], None] = lambda _: None
) -> int:
    """Bring back or end what dead workers held. How many jobs moved; `tell` hears of each."""
    moved = await db.fetch(SQL["requeue_expired"], most_attempts, 200)
    moved += await db.fetch(SQL["fail_expired"], most_attempts, 200, code, message)
    for row in moved:
        tell(row["id"])
    return len(moved)


async def count_waiting(db: asyncpg.Pool, *, most: int) -> int:
    """How many jobs wait, counted up to `most`."""
    return int(await db.fetchval(SQL["count_waiting"], most))
