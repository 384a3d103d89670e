"""One claimed job on its way to its end: trials run, each is kept as it finishes, then one statement completes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import asyncpg
import msgspec
import structlog
from msgspec import UNSET, Struct

from evals import ENGINE_VERSION
from evals.archives import read_archive
from evals.errors import EngineError
from evals.outcome import Outcome, build_outcome, find_cap
from evals.packages import read_package
from evals.pool import ModelPool
from evals.provenance import provenance_of, record_of
from evals.runner import Plan, run
from evals.types import Instructions, Suite, Trial
from server.domain.jobs import ClaimedJob, JobEnd
from server.domain.money import MoneyHeld, MoneyWish, booked_usd
from server.services.caching import CachedModels
from server.services.holding import HeldModels, Hold
from server.services.spending import ADVICE, Budget, SpendingModels
from server.services.superseding import BEFORE_A_VERDICT, SUPERSEDED, WHILE_IT_RAN
from server.store import jobs, money, packages, trials
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

CANCELLED = "cancelled"

Answer = TypeVar("Answer")


class Pace(Struct, frozen=True, kw_only=True):
    """How leases are kept. Seconds; the database's clock decides, this process's only when to ask."""

    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    job_seconds: float = 3600.0
    trial_seconds: float = 120.0

    @property
    def sure_seconds(self) -> float:
        """How long after a claim or heartbeat was sent the job is surely ours, and may cost money."""
        return self.lease_seconds - self.heartbeat_seconds / 2


class LeaseLost(Exception):
    """Another worker may have the job: nothing more may be written or paid for."""


async def run_job(
    db: asyncpg.Pool,
    models: ModelPool,
    job: ClaimedJob,
    *,
    pace: Pace,
    concurrency: int,
    stop: asyncio.Event,
    cache_days: int = 0,
    changed: Callable[[UUID], None] = lambda _: None,
) -> None:
    """Run what is left of the job and end it, unless the lease is lost on the way.

    `cache_days` is how old a kept answer may be; 0: none is used.
    Once `stop` is set no further call is made, and the job ends as cancelled with what it found so far.
    When this task is cancelled (the worker stops) the job goes back to the queue; finished trials are kept and
    not run again. `changed` is called after each commit that somebody may be waiting for.
    """
    changed(job.id)
    log.info("job started", attempt=job.attempt, fence=job.fence)
    started = time.monotonic()
    try:
        async with asyncio.TaskGroup() as group:
            hold = Hold(sure_until=job.asked_at + pace.sure_seconds)
            lease = group.create_task(_keep_lease(db, job, pace=pace, hold=hold))
            budget = Budget(cap=job.money_cap, spent=job.spent, settle=lambda wish: _settle(db, job, wish))
            # What is kept already costs nothing, so the cache stands before the money.
            cached = CachedModels(SpendingModels(HeldModels(models, hold), budget), db, job, days=cache_days)
            try:
                async with cached:
                    end = await _run_to_end(
                        db, cached, job, budget, pace=pace, concurrency=concurrency, stop=stop, changed=changed
                    )
                await _finish(db, job, msgspec.structs.replace(end, cost_usd=float(booked_usd(budget.spent))))
                changed(job.id)
            finally:
                lease.cancel()
    except* LeaseLost:
        log.warning("job lease lost", fence=job.fence)
    else:
        seconds = round(time.monotonic() - started, 3)
        log.info("job ended", status=end.status, conclusion=end.conclusion, seconds=seconds)


async def _run_to_end(
    db: asyncpg.Pool,
    models: CachedModels,
    job: ClaimedJob,
    budget: Budget,
    *,
    pace: Pace,
    concurrency: int,
    stop: asyncio.Event,
    changed: Callable[[UUID], None],
) -> JobEnd:
    try:
        plan = await _plan(db, job, pace=pace, concurrency=concurrency)
    except EngineError as error:
        # It could be read when it came in, so this is ours and not the package's.
        log.error("job cannot be prepared", error=type(error).__name__)
        return _failed("The package could not be read any more. The run was given back.", code="infrastructure")
    longest = plan.suite.max_tokens
    # Here and not at the call: an answer that is kept is found by the length that was asked for.
    cut = msgspec.structs.replace(plan.suite, max_tokens=min(longest, job.answer_tokens))
    plan = msgspec.structs.replace(plan, suite=cut)
    started = time.monotonic()
    found = {trial.key: trial for trial in await _patiently(lambda: trials.read_trials(db, job))}
    time_limit = asyncio.timeout(max(job.seconds_left, 0.0))
    is_all_ours = not found
    with contextlib.suppress(TimeoutError):
        async with time_limit:
            stream = run(plan, pool=models, done=found.keys())
            async with contextlib.aclosing(_in_batches(stream, stop=stop)) as batches:
                async for batch in batches:
                    # Before the trials: who goes on after us must not take for unpaid what it need not run.
                    await budget.book()
                    await _keep(db, job, batch)
                    changed(job.id)
                    found.update((trial.key, trial) for trial in batch)
    outcome = build_outcome(
        plan.suite,
        plan.models,
        found.values(),
        # From the first start on, whoever ran it then.
        total_duration_ms=round((job.seconds_run + time.monotonic() - started) * 1000),
        engine_version=ENGINE_VERSION,
        notes=_notes(job, longest=longest, capped=find_cap(found.values()), out_of_time=time_limit.expired()),
        out_of_time=time_limit.expired(),
    )
    outcome = msgspec.structs.replace(
        outcome,
        provenance=provenance_of(plan.instructions, plan.suite, plan.models, found.values(), snapshot=job.snapshot_id),
        record=record_of(plan.suite, plan.models, found.values()),
    )
    if stop.is_set():
        is_superseded = await _patiently(lambda: jobs.is_superseded(db, job.id))
        has_verdict = any(trial.state in ("passed", "failed") for trial in found.values())
        return _superseded(outcome, has_verdict=has_verdict) if is_superseded else _cancelled(outcome)
    # What an earlier lease found was answered by nobody knows which deployments; what a cap cut short holds for this
    # account's tier and day alone, and always has a note.
    is_whole = is_all_ours and outcome.summary.notes is UNSET
    kept = models.kept_outcome(plan.suite, outcome) if is_whole else None
    return msgspec.structs.replace(judge_job(outcome), kept=kept)


def _notes(job: ClaimedJob, *, longest: int, capped: str | None, out_of_time: bool) -> list[str]:
    notes = [f"{capped} {ADVICE}"] if capped else []
    if longest > job.answer_tokens:
        notes.append(
            f"The suite asks for answers of up to {longest:,} tokens; "
            f"your tier's have at most {job.answer_tokens:,}, so longer ones were cut."
        )
    if out_of_time:
        minutes = round((job.seconds_run + job.seconds_left) / 60)
        notes.append(f"The job's time of {minutes} min was over, so the rest was not run. Split the suite.")
    return notes


async def _plan(db: asyncpg.Pool, job: ClaimedJob, *, pace: Pace, concurrency: int) -> Plan:
    archive = await _patiently(lambda: packages.read_archive(db, job.snapshot_id))
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


def _cancelled(outcome: Outcome) -> JobEnd:
    """What was found stays readable and was paid for, so the run is not given back."""
    return msgspec.structs.replace(
        _failed("Cancelled while it ran.", code=CANCELLED, outcome=outcome), refund_reason=None
    )


def _superseded(outcome: Outcome, *, has_verdict: bool) -> JobEnd:
    """What was found stays readable; the run is given back if that is no verdict at all."""
    if not has_verdict:
        return _failed(BEFORE_A_VERDICT, code=SUPERSEDED, outcome=outcome)
    return msgspec.structs.replace(_failed(WHILE_IT_RAN, code=SUPERSEDED, outcome=outcome), refund_reason=None)


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


async def _in_batches(stream: AsyncGenerator[Trial, None], *, stop: asyncio.Event) -> AsyncGenerator[list[Trial], None]:
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

    async def watch() -> None:
        await stop.wait()
        news.set()

    task = asyncio.create_task(gather())
    watcher = asyncio.create_task(watch())
    try:
        while not stop.is_set():
            if waiting:
                batch, waiting[:] = waiting.copy(), []
                yield batch
            elif over:
                await task
                break
            else:
                await news.wait()
                news.clear()
    finally:
        watcher.cancel()
        task.cancel()
        await asyncio.gather(task, watcher, return_exceptions=True)
        await stream.aclose()


async def _keep_lease(db: asyncpg.Pool, job: ClaimedJob, *, pace: Pace, hold: Hold) -> None:
    """Extend the lease until cancelled. Raises LeaseLost when it is another's, or may be by now."""
    while True:
        await asyncio.sleep(pace.heartbeat_seconds)
        asked = time.monotonic()
        try:
            async with asyncio.timeout(max(hold.sure_until - asked, 0.0)):
                if not await jobs.extend_lease(db, job, lease_seconds=pace.lease_seconds):
                    raise LeaseLost
            hold.sure_until = asked + pace.sure_seconds
        except DATABASE_TROUBLE:
            if time.monotonic() >= hold.sure_until:
                raise LeaseLost from None


async def _settle(db: asyncpg.Pool, job: ClaimedJob, wish: MoneyWish) -> MoneyHeld:
    held = await _patiently(lambda: money.settle_money(db, job, wish))
    if held is None:
        # The job is another's: its keeper ends everybody, as soon as it sees that.
        await asyncio.get_running_loop().create_future()
    assert held is not None  # noqa: S101 - what stands before it never returns
    return held


async def _keep(db: asyncpg.Pool, job: ClaimedJob, batch: list[Trial]) -> None:
    await _as_holder(lambda: trials.store_trials(db, job, batch))


async def _finish(db: asyncpg.Pool, job: ClaimedJob, end: JobEnd) -> None:
    await _as_holder(lambda: jobs.finish_job(db, job, end))


async def _as_holder(write: Callable[[], Awaitable[bool]]) -> None:
    """Write. Raises LeaseLost when the job is another's."""
    if not await _patiently(write):
        raise LeaseLost


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """What the database says, asked again while it is away: the lease's keeper says when it is too late."""
    pause = 0.1
    while True:
        try:
            return await ask()
        except DATABASE_TROUBLE:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 2.0)
