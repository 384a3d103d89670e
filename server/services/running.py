"""One claimed job on its way to its end: trials run, each is kept as it finishes, then one statement completes it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

import asyncpg
import msgspec
import structlog
from msgspec import UNSET, Struct

from evals import ENGINE_VERSION
from evals.agents.choosing import Chosen, FrameworkUnavailable, Wish, choose
from evals.agents.plugins import PluginCatalogue, UnknownPlugin
from evals.agents.sandbox import why_no_agents
from evals.agents.tasks import AgentLimits
from evals.agreement import measure_agreement
from evals.archives import read_archive
from evals.baselines import history_of
from evals.catalogue import Catalogue
from evals.comparing import completed_baseline, lacking_rows, rerun_suspects, run_before, suspected_rows
from evals.comparison import RERUNS
from evals.errors import EngineError, ModelUnreachable, UnknownModel
from evals.grading import judges_named
from evals.models import Secret
from evals.outcome import Outcome, build_outcome, find_cap
from evals.packages import read_package
from evals.pool import ModelPool
from evals.provenance import provenance_of, record_of
from evals.runner import Plan, run, trial_count
from evals.types import Agreement, Completion, Framework, Instructions, Suite, Trial, TrialKey
from server.domain.jobs import ClaimedJob, JobEnd
from server.domain.money import MoneyHeld, MoneyWish, booked_usd
from server.services.baselines import Compared, NotAtHand, find_baseline, gate_of, known_rows, read_base, told
from server.services.caching import CachedModels
from server.services.choosing import choose_model
from server.services.drafting import DraftedModels, DraftStore
from server.services.holding import HeldModels, Hold
from server.services.outcome_signing import signed_end
from server.services.spending import ADVICE, Budget, SpendingModels
from server.services.superseding import SUPERSEDED, before_a_verdict, while_it_ran
from server.services.writing import lacks_cases, origin_note, write_suite
from server.store import generated_suites, history, jobs, money, packages, suite_drafts, trials
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

CANCELLED = "cancelled"
# The package can be read, and cannot be run as it was asked for.
FRAMEWORK_TROUBLE = (FrameworkUnavailable, UnknownPlugin)

Answer = TypeVar("Answer")


class Pace(Struct, frozen=True, kw_only=True):
    """How leases are kept. Seconds; the database's clock decides, this process's only when to ask."""

    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    job_seconds: float = 3600.0
    trial_seconds: float = 120.0
    agent_seconds: float = 600.0  # of a trial in which an agent runs

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
    plugins: PluginCatalogue | None = None,
    key: Secret | None = None,
    changed: Callable[[UUID], None] = lambda _: None,
) -> None:
    """Run what is left of the job and end it, unless the lease is lost on the way.

    `cache_days` is how old a kept answer may be; 0: none is used. `key` signs the outcome.
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
                        db,
                        cached,
                        job,
                        budget,
                        pace=pace,
                        concurrency=concurrency,
                        plugins=plugins or PluginCatalogue(),
                        stop=stop,
                        changed=changed,
                    )
                end = await signed_end(end, key)
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
    plugins: PluginCatalogue,
    stop: asyncio.Event,
    changed: Callable[[UUID], None],
) -> JobEnd:
    started = time.monotonic()
    if lacks_cases(job):
        written = await _with_cases(db, job, models, budget, stop=stop)
        if isinstance(written, JobEnd):
            return written
        job = written
        changed(job.id)
    found = {trial.key: trial for trial in await _patiently(lambda: trials.read_trials(db, job))}
    choice = await _patiently(lambda: choose_model(db, job, catalogue=models.catalogue, found=found))
    if choice is not None:
        job = msgspec.structs.replace(job, models=(choice.model,))
    try:
        plan, agent_notes = await _plan(db, job, models, pace=pace, concurrency=concurrency, plugins=plugins)
    except FRAMEWORK_TROUBLE as error:
        return _failed(f"{error.message} The run was given back.", code="framework_unavailable")
    except EngineError as error:
        # It could be read when it came in, so this is ours and not the package's.
        log.error("job cannot be prepared", error=type(error).__name__)
        return _failed("The package could not be read any more. The run was given back.", code="infrastructure")
    # Before anything is paid for: without this judge the suite has no verdict, whatever the models answer.
    if not found and (why := no_such_judge(plan.suite, models.catalogue)) is not None:
        return _failed(f"The suite's judge: {why} The run was given back.", code="no_judge")
    framework = "litellm" if plan.agent is None else "claude-agent"
    longest = plan.suite.max_tokens
    # Here and not at the call: an answer that is kept is found by the length that was asked for.
    cut = msgspec.structs.replace(plan.suite, max_tokens=min(longest, job.answer_tokens))
    plan = msgspec.structs.replace(plan, suite=cut)
    base_found = {trial.key: trial for trial in await _patiently(lambda: history.read_base_trials(db, job))}
    keeper = _Keeper(db, job, budget, stop, changed)
    compared = Compared()
    time_limit = asyncio.timeout(max(job.seconds_left - (time.monotonic() - started), 0.0))
    is_all_ours = not found
    agreement: Agreement | None = None
    with contextlib.suppress(TimeoutError):
        async with time_limit:
            await keeper.drain(run(plan, pool=models, done=found.copy()), trials.store_trials, into=found)
            if not stop.is_set():
                await _compare(keeper, plan, compared, models, found=found, base_found=base_found)
    seconds_left = job.seconds_left - (time.monotonic() - started)
    if not stop.is_set() and seconds_left > 0:
        agreement = await measure_agreement(plan, found.values(), pool=models, seconds=seconds_left)
    shortfalls = [
        *_shortfalls(job, longest=longest, capped=find_cap(found.values()), out_of_time=time_limit.expired()),
        *agent_notes,
    ]
    outcome = build_outcome(
        plan.suite,
        plan.models,
        found.values(),
        # From the first start on, whoever ran it then.
        total_duration_ms=round((job.seconds_run + time.monotonic() - started) * 1000),
        engine_version=ENGINE_VERSION,
        notes=[
            *_origins(job, plan.suite),
            *([choice.why] if choice is not None else []),
            *models.catalogue.notes(plan.models),
            *shortfalls,
        ],
        out_of_time=time_limit.expired(),
        agreement=agreement,
        baseline=compared.baseline,
        base_trials=tuple(base_found.values()),
    )
    outcome = msgspec.structs.replace(
        told(outcome, compared, job),
        provenance=provenance_of(
            plan.instructions,
            plan.suite,
            plan.models,
            found.values(),
            snapshot=job.snapshot_id,
            agent=plan.agent,
            early_stop=plan.early_stop,
        ),
        record=record_of(plan.suite, plan.models, found.values(), base_trials=tuple(base_found.values())),
    )
    if stop.is_set():
        is_superseded = await _patiently(lambda: jobs.is_superseded(db, job.id))
        unwanted = await _patiently(lambda: jobs.read_unwanted(db, job.id))
        has_verdict = any(trial.state in ("passed", "failed") for trial in found.values())
        end = _superseded(outcome, has_verdict=has_verdict, unwanted=unwanted) if is_superseded else _cancelled(outcome)
        return msgspec.structs.replace(end, framework=framework)
    # What an earlier lease found was answered by nobody knows which deployments; what a cap cut short holds for this
    # account's tier and day alone; what was compared holds for this baseline alone.
    is_whole = is_all_ours and choice is None and not shortfalls and outcome.gate is UNSET
    kept = models.kept_outcome(plan.suite, outcome) if is_whole else None
    past = history_of(plan, found.values())
    return msgspec.structs.replace(judge_job(outcome), kept=kept, framework=framework, history=past)


async def _with_cases(
    db: asyncpg.Pool, job: ClaimedJob, models: ModelPool, budget: Budget, *, stop: asyncio.Event
) -> ClaimedJob | JobEnd:
    """The job with cases that a model wrote: for an earlier job on the same files or, paid for by this one, now.

    They are kept before the first of them is run, and each answer of the model before that: who goes on after us need
    not pay for them again.
    """
    suite = await _patiently(lambda: generated_suites.adopt_suite(db, job))
    if suite is None:
        archive = await _patiently(lambda: packages.read_archive(db, job.snapshot_id))
        drafted = await _drafted(db, job, models, budget)
        try:
            written = await _unless_stopped(
                write_suite(job, archive or b"", models=drafted), stop=stop, seconds=job.seconds_left
            )
        except EngineError as error:
            return _failed(f"There are no cases to run: {error.message} The run was given back.", code="no_cases")
        if written is None and not stop.is_set():
            return _failed(
                "The job's time was over before its cases were written. The run was given back.", code="no_cases"
            )
        if written is None:
            is_superseded = await _patiently(lambda: jobs.is_superseded(db, job.id))
            if is_superseded:
                unwanted = await _patiently(lambda: jobs.read_unwanted(db, job.id))
                return _failed(before_a_verdict(unwanted), code=SUPERSEDED)
            return msgspec.structs.replace(_failed("Cancelled while it ran.", code=CANCELLED), refund_reason=None)
        await _as_holder(lambda: generated_suites.keep_suite(db, job, written.suite, model=written.model))
        suite = await _patiently(lambda: generated_suites.read_job_suite(db, job))
    return msgspec.structs.replace(job, suite_body=suite.body, trials=suite.trials)


async def _drafted(db: asyncpg.Pool, job: ClaimedJob, models: ModelPool, budget: Budget) -> DraftedModels:
    """Whoever writes the job's cases; what is answered is booked and kept before anything is made of it."""

    async def begin(number: int, model: str) -> None:
        await _as_holder(lambda: suite_drafts.begin_draft(db, job, number=number, model=model))

    async def keep(number: int, completion: Completion) -> None:
        # First the money: who goes on after us must not take for unpaid what it need not ask for.
        await budget.book()
        await _as_holder(lambda: suite_drafts.keep_draft(db, job, number=number, completion=completion))

    earlier = await _patiently(lambda: suite_drafts.read_drafts(db, job))
    return DraftedModels(models, earlier, store=DraftStore(begin=begin, keep=keep))


async def _unless_stopped(work: Coroutine[Any, Any, Answer], *, stop: asyncio.Event, seconds: float) -> Answer | None:
    """What the work gives; None once `stop` is set or the time is over, and the work is ended."""
    working = asyncio.create_task(work)
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((working, stopping), timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        return await working if working.done() else None
    finally:
        for task in (working, stopping):
            task.cancel()
        await asyncio.gather(working, stopping, return_exceptions=True)


def _origins(job: ClaimedJob, suite: Suite) -> list[str]:
    note = origin_note(job, suite)
    return [note] if note is not None else []


async def _compare(
    keeper: _Keeper,
    plan: Plan,
    compared: Compared,
    models: ModelPool,
    *,
    found: dict[TrialKey, Trial],
    base_found: dict[TrialKey, Trial],
) -> None:
    """The job is compared with its baseline, and its suspected rows are tried anew.

    What is decided here follows from trials and a baseline that are stored: whoever goes on after us decides the same,
    and asks for nothing again.
    """
    db, job = keeper.db, keeper.job
    fixed = await _patiently(lambda: find_baseline(db, job, plan))
    if fixed is None:
        return
    await _as_holder(lambda: history.fix_baseline(db, job, fixed))
    compared.fixed, compared.baseline = fixed, known_rows(plan, fixed)
    first = tuple(found.values())
    rows = lacking_rows(plan, first, baseline=compared.baseline) if gate_of(job).rule == "regressions" else ()
    base = await _patiently(lambda: read_base(db, job, fixed, plan, models.catalogue)) if rows else None
    if isinstance(base, NotAtHand):
        compared.no_base = base
    elif base is not None:
        before = run_before(plan, rows, base=base, pool=models, done=base_found.keys())
        await keeper.drain(before, history.store_base_trials, into=base_found)
        ran = tuple(base_found.values())
        compared.baseline = completed_baseline(plan, first, baseline=compared.baseline, rows=rows, ran=ran)
    suspected = suspected_rows(plan, first, baseline=compared.baseline)
    if suspected and not keeper.stop.is_set():
        await _as_holder(lambda: history.expect_trials(db, job, trial_count(plan) + RERUNS * len(suspected)))
        again = rerun_suspects(plan, first, baseline=compared.baseline, pool=models)
        await keeper.drain(again, trials.store_trials, into=found)


class _Keeper(NamedTuple):
    """Who stores what a job finds, as it finds it."""

    db: asyncpg.Pool
    job: ClaimedJob
    budget: Budget
    stop: asyncio.Event
    changed: Callable[[UUID], None]

    async def drain(
        self, stream: AsyncGenerator[Trial, None], store: StoreTrials, *, into: dict[TrialKey, Trial]
    ) -> None:
        """Every trial of the stream is kept, until `stop`. Raises LeaseLost."""
        async with contextlib.aclosing(_in_batches(stream, stop=self.stop)) as batches:
            async for batch in batches:
                # Before the trials: who goes on after us must not take for unpaid what it need not run.
                await self.budget.book()
                await _as_holder(functools.partial(store, self.db, self.job, batch))
                self.changed(self.job.id)
                into.update((trial.key, trial) for trial in batch)


StoreTrials = Callable[[asyncpg.Pool, ClaimedJob, list[Trial]], Awaitable[bool]]


def _shortfalls(job: ClaimedJob, *, longest: int, capped: str | None, out_of_time: bool) -> list[str]:
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


class _Planned(NamedTuple):
    plan: Plan
    notes: tuple[str, ...]  # on how the package is run


async def _plan(
    db: asyncpg.Pool, job: ClaimedJob, models: ModelPool, *, pace: Pace, concurrency: int, plugins: PluginCatalogue
) -> _Planned:
    archive = await _patiently(lambda: packages.read_archive(db, job.snapshot_id))
    if archive is None:
        raise EngineError("The snapshot is gone.")
    suite = msgspec.json.decode(job.suite_body, type=Suite)
    wish = Wish(
        asked=None if job.framework == "auto" else cast(Framework, job.framework),
        suite=suite,
        models=[models.catalogue.resolve(name) for name in job.models],
        plugins=plugins.choose(job.plugins),
        why_not=await asyncio.to_thread(why_no_agents),
        limits=AgentLimits(seconds=pace.agent_seconds),
    )
    instructions, chosen = await asyncio.to_thread(_read, archive, job, wish)
    return _Planned(
        Plan(
            instructions=instructions,
            suite=suite,
            models=job.models,
            concurrency=concurrency,
            trial_timeout_seconds=pace.trial_seconds if chosen.agent is None else pace.agent_seconds,
            agent=chosen.agent,
        ),
        chosen.notes,
    )


def _read(archive: bytes, job: ClaimedJob, wish: Wish) -> tuple[Instructions, Chosen]:
    """What the package tells, and how it is run."""
    files = read_archive(archive)
    package = read_package(
        files, name=job.package_name, version=job.package_version, format=job.format, subtype=job.subtype
    )
    return package.instructions, choose(package, files, wish)


def no_such_judge(suite: Suite, catalogue: Catalogue) -> str | None:
    """Why a judge that the suite names cannot be asked, as a sentence; None if all can."""
    for name in judges_named(suite):
        try:
            catalogue.resolve(name)
        except (UnknownModel, ModelUnreachable) as error:
            return error.message
    return None


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


def _superseded(outcome: Outcome, *, has_verdict: bool, unwanted: str | None) -> JobEnd:
    """What was found stays readable; the run is given back if that is no verdict at all."""
    if not has_verdict:
        return _failed(before_a_verdict(unwanted), code=SUPERSEDED, outcome=outcome)
    return msgspec.structs.replace(
        _failed(while_it_ran(unwanted), code=SUPERSEDED, outcome=outcome), refund_reason=None
    )


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
