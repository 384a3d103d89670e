"""One claimed job on its way to its end: trials run, each is kept as it finishes, then one statement completes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable

import asyncpg
import msgspec
import structlog
from msgspec import Struct

from evals import ENGINE_VERSION
from evals.archives import read_archive
from evals.errors import EngineError
from evals.outcome import Outcome, build_outcome
from evals.packages import read_package
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Instructions, Suite, Trial
from server.domain.jobs import ClaimedJob, JobEnd
from server.store import jobs, packages, trials

log = structlog.get_logger()

DATABASE_TROUBLE = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Pace(Struct, frozen=True, kw_only=True):
    """How leases are kept. Seconds; the database's clock decides, this process's only when to ask."""

    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    job_seconds: float = 3600.0
    trial_seconds: float = 120.0


class LeaseLost(Exception):
    """Another worker may have the job: nothing more may be written or paid for."""


async def run_job(db: asyncpg.Pool, models: ModelPool, job: ClaimedJob, *, pace: Pace, concurrency: int) -> None:
    """Run what is left of the job and end it, unless the lease is lost on the way.

    When cancelled (the worker stops) the job goes back to the queue; finished trials are kept and not run again.
    """
    log.info("job started", attempt=job.attempt, fence=job.fence)
    started = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            lease = group.create_task(_keep_lease(db, job, pace=pace))
            try:
                end = await _run_to_end(db, models, job, pace=pace, concurrency=concurrency)
                await _finish(db, job, end)
            finally:
                lease.cancel()
    except* LeaseLost:
        log.warning("job lease lost", fence=job.fence)
    else:
        seconds = round(time.monotonic() - started, 3)
        log.info("job ended", status=end.status, conclusion=end.conclusion, seconds=seconds)


async def _run_to_end(db: asyncpg.Pool, models: ModelPool, job: ClaimedJob, *, pace: Pace, concurrency: int) -> JobEnd:
    try:
        plan = await _plan(db, job, pace=pace, concurrency=concurrency)
    except EngineError as error:
        # It could be read when it came in, so this is ours and not the package's.
        log.error("job cannot be prepared", error=type(error).__name__)
        return _failed("The package could not be read any more. The run was given back.", code="infrastructure")
    started = time.monotonic()
    found = {trial.key: trial for trial in await trials.read_trials(db, job)}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(job.seconds_left, 0.0)):
            stream = run(plan, pool=models, done=found.keys())
            async with contextlib.aclosing(_in_batches(stream)) as batches:
                async for batch in batches:
                    await _keep(db, job, batch)
                    found.update((trial.key, trial) for trial in batch)
    outcome = build_outcome(
        plan.suite,
        plan.models,
        found.values(),
        total_duration_ms=round((time.monotonic() - started) * 1000),
        engine_version=ENGINE_VERSION,
    )
    return judge_job(outcome)


async def _plan(db: asyncpg.Pool, job: ClaimedJob, *, pace: Pace, concurrency: int) -> Plan:
    archive = await packages.read_archive(db, job.snapshot_id)
    if archive is None:
        raise EngineError("The snapshot is gone.")
    instructions = await asyncio.to_thread(_instructions, archive, job)
    return Plan(
        instructions=instructions,
        suite=msgspec.json.decode(job.suite_body, type=Suite),
        models=job.models,
        concurrency=concurrency,
        trial_timeout_seconds=pace.trial_seconds,
    )


def _instructions(archive: bytes, job: ClaimedJob) -> Instructions:
    files = read_archive(archive)
    return read_package(
        files, name=job.package_name, version=job.package_version, format=job.format, subtype=job.subtype
    ).instructions


def judge_job(outcome: Outcome) -> JobEnd:
    """How a job with this outcome ends: completed if any row has a verdict, else failed and given back."""
    summary = outcome.summary
    has_verdict = any(row.state in ("passed", "failed") for row in outcome.test_cases)
    if has_verdict:
        return JobEnd(
            status="completed",
            conclusion=summary.conclusion,
            summary=msgspec.json.encode(summary).decode(),
            outcome=msgspec.json.encode(outcome).decode(),
            tokens=summary.total_tokens,
            cost_usd=summary.total_cost_usd,
        )
    reasons = [row.error.message for row in outcome.test_cases if row.error]
    reason = reasons[0] if reasons else "No test could be run in the time there is."
    return _failed(f"No test has a verdict: {reason} The run was given back.", code="no_verdict", outcome=outcome)


def _failed(message: str, *, code: str, outcome: Outcome | None = None) -> JobEnd:
    return JobEnd(
        status="failed",
        error_code=code,
        error_message=message,
        refund_reason=code,
        outcome=msgspec.json.encode(outcome).decode() if outcome else None,
        summary=msgspec.json.encode(outcome.summary).decode() if outcome else None,
        tokens=outcome.summary.total_tokens if outcome else 0,
        cost_usd=outcome.summary.total_cost_usd if outcome else 0.0,
    )


async def _in_batches(stream: AsyncGenerator[Trial, None]) -> AsyncGenerator[list[Trial], None]:
    """Whatever finished since the last look, together: storing one batch lets the next one gather."""
    waiting: list[Trial] = []
    news = asyncio.Event()
    over = False

    async def gather() -> None:
        nonlocal over
        try:
            async for trial in stream:
                waiting.append(trial)
                news.set()
        finally:
            over = True
            news.set()

    task = asyncio.create_task(gather())
    try:
        while True:
            if waiting:
                batch, waiting[:] = waiting.copy(), []
                yield batch
            elif over:
                break
            else:
                await news.wait()
                news.clear()
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.aclose()


async def _keep_lease(db: asyncpg.Pool, job: ClaimedJob, *, pace: Pace) -> None:
    """Extend the lease until cancelled. Raises LeaseLost when it is another's, or may be by now."""
    sure_until = time.monotonic() + pace.lease_seconds - pace.heartbeat_seconds / 2
    while True:
        await asyncio.sleep(pace.heartbeat_seconds)
        asked = time.monotonic()
        try:
            async with asyncio.timeout(max(sure_until - asked, 0.0)):
                if not await jobs.extend_lease(db, job, lease_seconds=pace.lease_seconds):
                    raise LeaseLost
            sure_until = asked + pace.lease_seconds - pace.heartbeat_seconds / 2
        except DATABASE_TROUBLE:
            # Half a heartbeat before the end of the lease nobody may spend on this job any more.
            if time.monotonic() >= sure_until:
                raise LeaseLost from None


async def _keep(db: asyncpg.Pool, job: ClaimedJob, batch: list[Trial]) -> None:
    await _as_holder(lambda: trials.store_trials(db, job, batch))


async def _finish(db: asyncpg.Pool, job: ClaimedJob, end: JobEnd) -> None:
    await _as_holder(lambda: jobs.finish_job(db, job, end))


async def _as_holder(write: Callable[[], Awaitable[bool]]) -> None:
    """Write, again while the database is away: the lease's keeper says when it is too late. Raises LeaseLost."""
    pause = 0.1
    while True:
        try:
            if not await write():
                raise LeaseLost
        except DATABASE_TROUBLE:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
        else:
            return
