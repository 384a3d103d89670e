"""A worker's loop: claims jobs while it has free slots and there is something to start, and sweeps each second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import asyncpg
import structlog

from evals.agents.plugins import PluginCatalogue
from evals.models import Secret
from evals.pool import ModelPool
from server.domain.jobs import ClaimedJob, Wakeups
from server.services.announcing import Announcer
from server.services.caching import announce_models
from server.services.pacing import JobTimes
from server.services.running import Pace, run_job
from server.services.superseding import BEFORE_A_VERDICT, supersede
from server.store import jobs, workers
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

MOST_ATTEMPTS = 3
SWEEP_SECONDS = 1.0
ANNOUNCE_SECONDS = 5.0
GIVE_BACK_SECONDS = 3.0


class ClaimLoop:
    """Runs up to `slots` jobs at once. Needs no Redis: a nudge only makes it look at once."""

    def __init__(
        self,
        db: asyncpg.Pool,
        models: ModelPool,
        wakeups: Wakeups,
        *,
        worker_id: str,
        slots: int,
        job_concurrency: int,
        pace: Pace,
        cache_days: int = 0,
        plugins: PluginCatalogue | None = None,
        key: Secret | None = None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """`key` signs outcomes; without one they are not signed."""
        self._plugins = plugins or PluginCatalogue()
        self._db = db
        self._models = models
        self._wakeups = wakeups
        self._worker_id = worker_id
        self._slots = slots
        self._job_concurrency = job_concurrency
        self._pace = pace
        self._cache_days = cache_days
        self._key = key
        self._tell_of_end = ended
        self._announcer = Announcer(db)
        self._nudged = asyncio.Event()
        self._running: dict[asyncio.Task[None], ClaimedJob] = {}
        self._stops: dict[UUID, asyncio.Event] = {}  # of running jobs, for those that are cancelled
        self._job_times = JobTimes()

    def nudge(self) -> None:
        """There may be work: look now."""
        self._nudged.set()

    async def run(self) -> None:
        """Claim, sweep and announce until cancelled; then give every job back."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._claim())
                group.create_task(self._sweep())
                group.create_task(self._announce())
                group.create_task(self._announcer.run())
        finally:
            await self._give_back()

    async def _claim(self) -> None:
        while True:
            self._nudged.clear()
            try:
                while len(self._running) < self._slots and (job := await self._claim_one()):
                    self._start(job)
            except DATABASE_TROUBLE as error:
                log.warning("claim failed", reason=type(error).__name__)
                await asyncio.sleep(0.5)
            await self._nudged.wait()

    async def _claim_one(self) -> ClaimedJob | None:
        return await jobs.claim_job(
            self._db,
            self._worker_id,
            lease_seconds=self._pace.lease_seconds,
            job_seconds=self._pace.job_seconds,
        )

    def _start(self, job: ClaimedJob) -> None:
        task = asyncio.create_task(self._run_job(job), name=f"job {job.id}")
        self._running[task] = job
        task.add_done_callback(self._ended)

    async def _run_job(self, job: ClaimedJob) -> None:
        stop = self._stops[job.id] = asyncio.Event()
        with structlog.contextvars.bound_contextvars(job_id=str(job.id)):
            started = time.monotonic()
            await run_job(
                self._db,
                self._models,
                job,
                pace=self._pace,
                concurrency=self._job_concurrency,
                stop=stop,
                cache_days=self._cache_days,
                plugins=self._plugins,
                key=self._key,
                changed=self._announcer.tell,
            )
            self._job_times.note(trials=job.trials, seconds=time.monotonic() - started)

    def _ended(self, task: asyncio.Task[None]) -> None:
        job = self._running.pop(task)
        self._stops.pop(job.id, None)
        self._tell_of_end()
        if not task.cancelled() and (error := task.exception()):
            # The lease runs out and the sweep brings the job back, up to its last attempt.
            log.error("job crashed", job_id=str(job.id), reason=type(error).__name__, exc_info=error)
        self.nudge()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await supersede(self._db)
                await self._stop_cancelled()
                moved = await jobs.sweep_expired(
                    self._db,
                    most_attempts=MOST_ATTEMPTS,
                    code="infrastructure",
                    message="The workers that ran this job were lost. The run was given back; please submit it again.",
                    superseded_message=BEFORE_A_VERDICT,
                    tell=self._announcer.tell,
                )
                if moved:
                    log.warning("expired leases swept", jobs=moved)
                free = self._slots - len(self._running)
                if await jobs.count_waiting(self._db, most=self._slots):
                    if free:
                        self.nudge()
                    else:
                        await self._wakeups.wake()
            except DATABASE_TROUBLE as error:
                log.warning("sweep failed", reason=type(error).__name__)

    async def _stop_cancelled(self) -> None:
        if self._stops:
            for job_id in await jobs.list_cancelled(self._db, list(self._stops)):
                self._stops[job_id].set()

    async def _announce(self) -> None:
        while True:
            try:
                await workers.announce_worker(
                    self._db,
                    self._worker_id,
                    slots=self._slots,
                    job_time=self._job_times.estimate(),
                    models=announce_models(self._models.catalogue, plugins=self._plugins.names),
                )
                await workers.forget_workers(self._db)
            except DATABASE_TROUBLE as error:
                log.warning("announcement failed", reason=type(error).__name__)
            await asyncio.sleep(ANNOUNCE_SECONDS)

    async def _give_back(self) -> None:
        held = list(self._running.items())
        for task, _ in held:
            task.cancel()
        await asyncio.gather(*(task for task, _ in held), return_exceptions=True)
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                for _, job in held:
                    if await jobs.release_job(self._db, job):
                        log.info("job given back", job_id=str(job.id))
                        self._announcer.tell(job.id)
                await workers.retire_worker(self._db, self._worker_id)
                await self._announcer.flush()
                if held:
                    await self._wakeups.wake()
        except DATABASE_TROUBLE:
            # Their leases run out and the sweep of another worker finds them.
            log.warning("jobs not given back", jobs=len(held))
