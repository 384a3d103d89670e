"""Jobs in PostgreSQL: one verb a change of state."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from uuid import UUID, uuid4

import asyncpg
import msgspec
from msgspec import Struct

from server.domain.baselines import Against
from server.domain.change_heads import Gone
from server.domain.changes import Change
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
    Submitted,
    SuiteSource,
)
from server.domain.money import nano_usd
from server.domain.queue import Outlook
from server.domain.reporting import ReportSettings
from server.domain.rights import roles_with, scopes_with
from server.store.queries import read_queries

SQL = read_queries("jobs")

# Raised by refuse() in the schema.
REFUSED = "PR001"


class SubmitRow(Struct, kw_only=True, omit_defaults=True):
    """One submit as its statement reads it from JSON."""

    job_id: UUID
    account_id: UUID | None = None
    token_hash: str | None = None
    key: str | None = None
    request_sha256: str
    force: bool
    package_id: UUID | None = None
    package_name: str | None = None
    package_version: str | None = None
    snapshot_id: str | None = None
    suite_id: str | None = None
    suite_body: str | None = None
    suite_trials: int | None = None
    suite_source: str | None = None
    awaits_cases: bool = False
    models: list[str]
    framework: str
    plugins: list[str]
    upload: bool
    verify: bool
    cause: str
    use_cache: bool
    may_cost: bool
    outcome_settings: str | None = None
    outcome_days: int = 0
    max_cost_usd: float | None = None
    change: Change | None = None
    suite_name: str
    against: Against | None = None
    report: ReportSettings | None = None
    account_name: str | None = None


# What the submit's statement is told of who may do what.
RIGHTS = (roles_with("run"), scopes_with("run"), roles_with("publish"), scopes_with("publish"))


class NotTogether(Exception):
    """One of several submits made PostgreSQL refuse them all: nothing was kept, and each may be sent alone."""


async def submit_jobs(db: asyncpg.Pool, new: Sequence[NewJob], *, outlook: Outlook | None = None) -> list[Submitted]:
    """For each the kept and charged job, or why nothing was kept. None: the credential stands for nobody.

    Raises NotTogether for more than one. For a single one QuotaExceeded, or Unavailable when the package is just
    being removed. Nothing is kept then.
    """
    rows = msgspec.json.encode([_submit_row(job) for job in new]).decode()
    expected = msgspec.json.encode(outlook).decode() if outlook else None
    try:
        answers = await db.fetch(SQL["submit_jobs"], rows, expected, *RIGHTS)
    except asyncpg.PostgresError as error:
        if isinstance(error, asyncpg.PostgresConnectionError | asyncpg.OperatorInterventionError):
            raise  # the server is going, and would refuse each of them too
        if len(new) > 1:
            raise NotTogether from None
        if error.sqlstate == REFUSED:
            raise QuotaExceeded("This month's test runs are used up.") from None
        if isinstance(error, asyncpg.ForeignKeyViolationError):
            # The clean-up took the old upload in this very moment.
            raise Unavailable("The package was being cleaned up at this moment. Send the request again.") from None
        raise
    by_id = {answer["sent_id"]: answer for answer in answers}
    return [_submitted(by_id[job.id], job) for job in new]


def _submit_row(job: NewJob) -> SubmitRow:
    suite = job.suite
    return SubmitRow(
        job_id=job.id,
        account_id=job.credential.account_id,
        token_hash=job.credential.token_hash,
        key=job.key,
        request_sha256=job.request_sha256,
        force=job.force,
        package_id=job.package.id,
        package_name=job.package.name,
        package_version=job.package_version,
        snapshot_id=job.snapshot_id,
        suite_id=suite.id if suite else None,
        suite_body=suite.body if suite else None,
        suite_trials=suite.trials if suite else None,
        suite_source=suite.source if suite else None,
        awaits_cases=suite.awaits_cases if suite else False,
        models=job.models,
        framework=job.framework,
        plugins=job.plugins,
        upload=job.upload_results,
        verify=job.verify_results,
        may_cost=job.may_cost,
        max_cost_usd=job.max_cost_usd,
        cause=job.cause,
        use_cache=job.use_cache,
        outcome_settings=job.outcome_settings,
        outcome_days=job.outcome_days,
        change=job.change,
        suite_name=job.suite_name,
        against=job.against,
        report=job.report,
        account_name=job.account,
    )


def _submitted(answer: asyncpg.Record, job: NewJob) -> Submitted:
    if answer["refusal"] == "nobody":
        return None
    if answer["refusal"] is not None:
        return Refused(
            reason=answer["refusal"],
            tier=answer["tier"],
            package=f"{answer['name']}@{answer['version']}" if answer["name"] else None,
            suite_error=answer["suite_error"],
            trials=answer["trials"],
        )
    if answer["job_id"] is None:
        return EqualSubmit(account_id=answer["caller_id"], key=answer["key"])
    return _submission(answer, request_sha256=job.request_sha256)


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
        money_level=row["submit_money_level"],
        request_sha256=request_sha256,
    )


def read_against(body: str | None) -> Against | None:
    """From the column's JSON."""
    return None if body is None else msgspec.json.decode(body, type=Against)


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
        cached_at=row["cached_at"],
        suite_name=row["suite_name"],
        change=msgspec.json.decode(row["change"], type=Change) if row["change"] else None,
        superseded_by=row["superseded_by"],
        unwanted=row["unwanted"],
        is_reported_here=row["is_reported_here"],
        previous=row["previous"],
    )


async def read_request(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID) -> JobRequest | None:
    """What the job was asked to do, if it is of an account that `seen_by` belongs to."""
    row = await db.fetchrow(SQL["read_request"], job_id, seen_by)
    if row is None:
        return None
    return JobRequest(
        job_id=row["id"],
        account_id=row["account_id"],
        account_name=row["account_name"],
        package_id=row["package_id"],
        package_version=row["package_version"],
        snapshot_id=row["snapshot_id"],
        suite=SentSuite(
            id=row["suite_id"], body=row["suite_body"], trials=row["suite_trials"], source=_sent_as(row["suite_source"])
        ),
        suite_is_current=row["suite_is_current"],
        models=row["models_requested"],
        plugins=row["plugins_requested"] or [],
        framework=row["framework"],
        upload_results=row["upload_results"],
        verify_results=row["verify_results"],
        max_cost_usd=float(row["max_cost_usd"]) if row["max_cost_usd"] is not None else None,
        use_cache=row["use_cache"],
        suite_name=row["suite_name"],
        against=read_against(row["against"]),
    )


def _sent_as(source: str) -> SuiteSource:
    """What a job's suite is when it is sent with a new one: one of the package's own is the request's then."""
    return "registry" if source == "registry" else "generated" if source == "generated" else "request"


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
            is_cached=row["is_cached"],
        )
        for row in rows
    ]


async def read_outcome(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID | None) -> asyncpg.Record | None:
    """`status`, `error_message`, `outcome` (JSON text or None) and `cached_at` of a job that `seen_by` may see."""
    return await db.fetchrow(SQL["read_outcome"], job_id, seen_by)


async def claim_job(db: asyncpg.Pool, owner: str, *, lease_seconds: float, job_seconds: float) -> ClaimedJob | None:
    """The next job that may start, now held by `owner`; None when there is none.

    The claim is one statement for the client, so that no lock outlives a worker that is frozen in the middle.
    """
    async with db.acquire() as connection:
        asked_at = time.monotonic()
        claim = await connection.fetchrow(SQL["claim_job"], owner, lease_seconds, job_seconds)
        if claim is None:
            return None
        row = await connection.fetchrow(SQL["read_claimed_job"], claim["id"])
    return ClaimedJob(
        id=claim["id"],
        fence=claim["fence"],
        attempt=claim["attempt"],
        package_name=row["package_name"],
        package_version=row["package_version"],
        format=row["format"],
        subtype=row["subtype"],
        snapshot_id=row["snapshot_id"],
        suite_body=row["suite_body"],
        models=tuple(row["models_requested"]),
        plugins=tuple(row["plugins_requested"] or ()),
        framework=row["framework"],
        trials=row["trials_total"],
        seconds_left=claim["seconds_left"],
        seconds_run=row["seconds_run"],
        money_cap=nano_usd(row["money_cap_usd"]),
        spent=nano_usd(row["cost_usd"]),
        answer_tokens=row["answer_tokens"],
        asked_at=asked_at,
        account_id=row["user_id"],
        use_cache=row["use_cache"],
        is_public=row["is_public"],
        suite_source=row["suite_source"],
        suite_name=row["suite_name"],
        change=msgspec.json.decode(row["change"], type=Change) if row["change"] else None,
        against=read_against(row["against"]),
    )


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
        msgspec.json.encode(end.kept).decode() if end.kept else None, msgspec.json.encode(end.history).decode(),
        end.framework,
    )  # fmt: skip
    return row is not None


async def cancel_job(db: asyncpg.Pool, job_id: UUID, *, seen_by: UUID | None, code: str, message: str) -> bool:
    """Whether the job was waiting, and is over now, or runs, and its worker will end it."""
    return await db.fetchval(SQL["cancel_job"], job_id, seen_by, code, message) is not None


async def supersede_jobs(db: asyncpg.Pool, *, most: int, message: str) -> list[UUID]:
    """Jobs of older heads that are over now, or that their workers will end, for at most `most` new heads.

    Safe to call at any time and by many: each new head is seen to once.
    """
    return [row["id"] for row in await db.fetch(SQL["supersede_jobs"], most, message)]


async def let_go_jobs(db: asyncpg.Pool, account_id: UUID, gone: Gone, *, reason: str, message: str) -> list[UUID]:
    """Jobs of what went that are over now, with this message, or that their workers will end. Safe to call twice."""
    return [row["id"] for row in await db.fetch(SQL["let_go_jobs"], account_id, *gone, reason, message)]


async def is_superseded(db: asyncpg.Pool, job_id: UUID) -> bool:
    """Whether it was the change itself that asked for the running job's end: a newer head, or that it went."""
    return bool(await db.fetchval(SQL["is_superseded"], job_id))


async def read_unwanted(db: asyncpg.Pool, job_id: UUID) -> str | None:
    """Why nobody waits for the job any more though no newer head came, in a sentence; None otherwise."""
    found: str | None = await db.fetchval(SQL["read_unwanted"], job_id)
    return found


async def list_cancelled(db: asyncpg.Pool, job_ids: list[UUID]) -> set[UUID]:
    """Which of these running jobs somebody wants to end."""
    return {row["id"] for row in await db.fetch(SQL["list_cancelled"], job_ids)}


async def sweep_expired(
    db: asyncpg.Pool,
    *,
    most_attempts: int,
    code: str,
    message: str,
    superseded_message: str = "A newer commit of this change was submitted.",
    tell: Callable[[UUID], None] = lambda _: None,
) -> int:
    """Bring back or end what dead workers held. How many jobs moved; `tell` hears of each."""
    moved = await db.fetch(SQL["requeue_expired"], most_attempts, 200)
    moved += await db.fetch(SQL["fail_expired"], most_attempts, 200, code, message, superseded_message)
    for row in moved:
        tell(row["id"])
    return len(moved)


async def count_waiting(db: asyncpg.Pool, *, most: int) -> int:
    """How many jobs wait, counted up to `most`."""
    return int(await db.fetchval(SQL["count_waiting"], most))
