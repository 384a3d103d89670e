"""A day at the queue in virtual time: real statements on a real PostgreSQL, jobs that take as long as the seed says.

Start keys, starts and the view's moment are virtual; leases are long enough that the database's own clock plays no
part.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import NamedTuple

import asyncpg
import msgspec

from server.domain.jobs import ClaimedJob, JobEnd, Submission
from server.domain.queue import RunningJob
from server.domain.tiers import TIERS
from server.services.forecasting import forecast
from server.services.pacing import JobTimes
from server.store import jobs, workers
from server.store.queue import read_queue
from tests.queue import a_new_job, an_account

MORNING = datetime(2026, 1, 5, 8, tzinfo=UTC)
END = JobEnd(status="completed", conclusion="passed", summary="{}", outcome="{}")
DAY_SECONDS = 86_400.0


class Forecast(NamedTuple):
    """What somebody was told, and what came of it."""

    told: float
    waited: float

    @property
    def error(self) -> float:
        """As a share of the true wait."""
        return abs(self.told - self.waited) / self.waited


class Day(NamedTuple):
    """What happened: forecasts of submits and of later looks, and the order in which jobs came and started."""

    at_submit: list[Forecast]
    at_look: list[Forecast]
    most_running: dict[uuid.UUID, int]


class Mix(NamedTuple):
    """What jobs are like. `sizes`: fewest and most trials, and how often; a job's time varies by `spread` (of the
    logarithm) around 1.5 s and `trial_seconds` a trial, in slow accounts, which are this share, four times as long."""

    sizes: tuple[tuple[int, int, int], ...] = ((1, 5, 60), (10, 40, 30), (100, 300, 10))
    spread: float = 0.4
    trial_seconds: float = 0.4
    most_burst: int = 15  # jobs that come within 5 s
    slow_share: float = 0.0

    @property
    def mean_seconds(self) -> float:
        """Of a job, about."""
        weights = sum(weight for _, _, weight in self.sizes)
        trials = sum((low + high) / 2 * weight for low, high, weight in self.sizes) / weights
        return (1.5 + self.trial_seconds * trials) * (1 + 3 * self.slow_share)


class _Job(NamedTuple):
    account: uuid.UUID
    bonus_seconds: int
    trials: int
    came_at: float
    factor: float


class _Arrival(NamedTuple):
    account: uuid.UUID
    tier: str


class _End(NamedTuple):
    job: ClaimedJob
    worker: str
    seconds: float


class QueueDay:
    """`workers` of `slots` each serve accounts of these tiers; jobs arrive in bursts."""

    def __init__(
        self,
        db: asyncpg.Pool,
        *,
        seed: int,
        tiers: Sequence[str],
        worker_slots: Sequence[int],
        mix: Mix = Mix(),  # noqa: B008 - immutable
    ) -> None:
        self._db = db
        self._mix = mix
        self._slow: set[uuid.UUID] = set()
        self._random = Random(seed)  # noqa: S311 - the same day each time
        self._tiers = tiers
        self._slots = {f"worker-{number}": slots for number, slots in enumerate(worker_slots)}
        self._times = {worker: JobTimes() for worker in self._slots}
        self._free = dict(self._slots)
        self._now = 0.0
        self._jobs: dict[uuid.UUID, _Job] = {}
        self._told: dict[uuid.UUID, float] = {}
        self._looks: dict[uuid.UUID, list[tuple[float, float]]] = {}
        self._running: dict[uuid.UUID, int] = {}
        self._under_way: dict[uuid.UUID, tuple[float, float]] = {}  # when it began, and how long it takes
        self._views = 0
        self._day = Day([], [], {})

    async def run(self, *, count: int, load: float) -> Day:
        """So many jobs, arriving at `load` times what the workers can do."""
        accounts = [(await an_account(self._db, tier=tier), tier) for tier in self._tiers]
        self._slow = (
            {account for account, _ in accounts[:: round(1 / self._mix.slow_share)]} if self._mix.slow_share else set()
        )
        events: list[tuple[float, int, _Arrival | _End]] = []
        for number, arrival in enumerate(self._arrivals(count, load=load)):
            heapq.heappush(events, (arrival, number, _Arrival(*self._random.choice(accounts))))
        number = count
        while events:
            self._now, _, event = heapq.heappop(events)
            await (self._submit(*event) if isinstance(event, _Arrival) else self._end(*event))
            for ended in await self._claim():
                number += 1
                heapq.heappush(events, (self._now + ended.seconds, number, ended))
            if number % 5 == 0:
                await self._look()
        return self._day

    def _arrivals(self, count: int, *, load: float) -> list[float]:
        rate = load * sum(self._slots.values()) / self._mix.mean_seconds
        moments, moment = [], 0.0
        while len(moments) < count:
            moment += self._random.expovariate(2 * rate / (1 + self._mix.most_burst))
            moments += [
                moment + self._random.uniform(0, 5) for _ in range(self._random.randint(1, self._mix.most_burst))
            ]
        return sorted(moments)[:count]

    def _trials(self) -> int:
        low, high, _ = self._random.choices(self._mix.sizes, weights=[weight for _, _, weight in self._mix.sizes])[0]
        return self._random.randint(low, high)

    async def _submit(self, account: uuid.UUID, tier: str) -> None:
        trials = self._trials()
        suite = jobs_suite(trials)
        view = await self._view()
        new = a_new_job(account, suite=suite)
        [kept] = await jobs.submit_jobs(self._db, [new], outlook=forecast(view).outlook)
        assert isinstance(kept, Submission), kept
        bonus = TIERS[tier].start_bonus_seconds
        await self._db.execute(
            "UPDATE test_jobs SET start_key = $2, created_at = $3 WHERE id = $1",
            new.id,
            self._at(self._now - bonus),
            self._at(self._now),
        )
        self._jobs[new.id] = _Job(account, bonus, trials, self._now, 4.0 if account in self._slow else 1.0)
        self._told[new.id] = kept.wait_seconds

    async def _claim(self) -> list[_End]:
        started = []
        for worker in [name for name, free in self._free.items() for _ in range(free)]:
            job = await jobs.claim_job(self._db, worker, lease_seconds=DAY_SECONDS, job_seconds=DAY_SECONDS)
            if job is None:
                break
            await self._db.execute("UPDATE test_jobs SET started_at = $2 WHERE id = $1", job.id, self._at(self._now))
            known = self._jobs[job.id]
            waited = self._now - known.came_at
            self._day.at_submit.append(Forecast(self._told.pop(job.id), waited))
            for looked_at, told in self._looks.pop(job.id, []):
                self._day.at_look.append(Forecast(told, self._now - looked_at))
            self._free[worker] -= 1
            running = self._running[known.account] = self._running.get(known.account, 0) + 1
            self._day.most_running[known.account] = max(running, self._day.most_running.get(known.account, 0))
            expected = (1.5 + self._mix.trial_seconds * known.trials) * known.factor
            seconds = expected * self._random.lognormvariate(0, self._mix.spread)
            self._under_way[job.id] = (self._now, seconds)
            started.append(_End(job, worker, seconds))
        return started

    async def _end(self, job: ClaimedJob, worker: str, seconds: float) -> None:
        assert await jobs.finish_job(self._db, job, END)
        self._free[worker] += 1
        self._running[self._jobs[job.id].account] -= 1
        self._times[worker].note(trials=job.trials, seconds=seconds)

    async def _look(self) -> None:
        """Somebody asks how long a waiting job still has to wait."""
        if not self._told:
            return
        job_id = self._random.choice(list(self._told))
        seen = await jobs.read_job(self._db, job_id, seen_by=None)
        assert seen is not None
        told = forecast(await self._view()).wait(job_id, position=seen.position)
        self._looks.setdefault(job_id, []).append((self._now, told))

    async def _view(self):
        if self._views % 10 == 0:
            for worker, slots in self._slots.items():
                job_time = self._times[worker].estimate()
                await workers.announce_worker(self._db, worker, slots=slots, job_time=job_time, models=())
        self._views += 1
        view = await read_queue(self._db, moment=self._at(self._now))
        return msgspec.structs.replace(view, running=tuple(self._with_progress(job) for job in view.running))

    def _with_progress(self, job: RunningJob) -> RunningJob:
        """Trials finish evenly; they are not stored here, which would be most of the work."""
        began, seconds = self._under_way[job.id]
        return job._replace(finished=int(job.trials * (self._now - began) / seconds))

    def _at(self, seconds: float) -> datetime:
        return MORNING + timedelta(seconds=seconds)


def jobs_suite(trials: int):
    """A suite that came with the request and takes so many trials."""
    from server.domain.jobs import SentSuite

    return SentSuite(id=f"{trials:064d}", body="{}", trials=trials)
