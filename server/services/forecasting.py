"""How long a job will wait: the queue's front is played through, in the order of starting and with expected times."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from math import sqrt
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from server.domain.queue import Arrivals, Outlook, QueueView, RunningJob, WaitingJob
from server.store.queue import read_queue
from server.store.trouble import DATABASE_TROUBLE

log = structlog.get_logger()

LOOK_SECONDS = 1.0
RECENT_SECONDS = 5.0
MOST_SHARE = 0.8  # of the slots, that higher tiers are expected to take in the long run
LEAST_LEFT = 0.25  # of its expected time, for a job that has taken longer than expected
MOST_OWN = 500  # accounts of an outlook


class Forecast(NamedTuple):
    """Seconds from the view's moment on."""

    starts: Mapping[UUID, float]  # of the jobs at the queue's front
    outlook: Outlook
    behind_seconds: float  # that each job behind the front adds

    def wait(self, job_id: UUID, *, position: int | None) -> float:
        """Until this waiting job starts; one that the view did not see yet waits behind all that it saw."""
        if (start := self.starts.get(job_id)) is not None:
            return start
        behind = max((position or 0) - len(self.starts) - 1, 0)
        return max(self.starts.values(), default=0.0) + behind * self.behind_seconds


def forecast(view: QueueView) -> Forecast:
    """Every start at the front, and what jobs that come now have to expect."""
    play = _Play(view)
    play.run()
    slots = max(view.pace.slots, 1)
    behind = view.pace.seconds(jobs=view.jobs_behind, trials=view.trials_behind) / slots
    own = {account: seconds + behind for account, seconds in play.own_seconds() if seconds > 0}
    longest = heapq.nlargest(MOST_OWN, own, key=own.__getitem__)
    # Only while all slots are busy does who overtakes take one away.
    busy_seconds = max(play.others_seconds.values(), default=0.0)
    starts = {
        job.id: seconds + _overtaken(view, min(seconds, busy_seconds), start_key=job.start_key)
        for job in view.front
        if (seconds := play.starts.get(job.id)) is not None
    }
    others = {
        tier: seconds + behind + _overtaken(view, seconds + behind, start_key=play.keys[tier])
        for tier, seconds in play.others_seconds.items()
    }
    outlook = Outlook(others_seconds=others, own_seconds={str(account): own[account] for account in longest})
    return Forecast(starts, outlook, behind / view.jobs_behind if view.jobs_behind else 0.0)


def _overtaken(view: QueueView, seconds: float, *, start_key: datetime) -> float:
    """What jobs of higher tiers add that come while this one waits, as many as came lately."""
    age = (view.now - start_key).total_seconds()
    # A tier overtakes for as long as its bonus is more than the job's own and its age.
    ahead = [(_share(view, arrivals), view.bonus_seconds[arrivals.tier] - age) for arrivals in view.arrivals]
    ahead = [(share, until) for share, until in ahead if until > 0]
    stretched = seconds / (1 - min(sum(share for share, _ in ahead), MOST_SHARE))
    return sum(share * min(stretched, until) for share, until in ahead)


def _share(view: QueueView, arrivals: Arrivals) -> float:
    """Of all slots, that this tier's new jobs take."""
    work = view.pace.seconds(jobs=arrivals.jobs, trials=arrivals.trials)
    return work / max(arrivals.seconds, 1.0) / max(view.pace.slots, 1)


def _seconds_left(view: QueueView, running: RunningJob) -> float:
    """Of a running job: at first by what such jobs take, then ever more by how fast its own trials went."""
    expected = view.pace.seconds(jobs=1, trials=running.trials)
    elapsed = max((view.now - running.started_at).total_seconds(), 0.0)
    done = min(running.finished / max(running.trials, 1), 1.0)
    if done == 0:
        return max(expected - elapsed, LEAST_LEFT * expected)
    own_say = sqrt(done)
    return (1 - done) * ((1 - own_say) * expected + own_say * elapsed / done)


class _Account:
    """What one account has running and waiting."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.running = 0
        self.waiting: deque[WaitingJob] = deque()
        self.is_offered = False  # its head stands among those that may start
        self.free_at: float | None = None  # when a job that comes now would have one of its slots


class _Play:
    """The order of starting, played with expected times: accounts with a free slot by their head, then the head."""

    def __init__(self, view: QueueView) -> None:
        self.starts: dict[UUID, float] = {}
        self.others_seconds: dict[str, float] = {}
        self._view = view
        self._now = 0.0
        self._accounts: dict[UUID, _Account] = {}
        self._ends: list[tuple[float, int, UUID]] = []
        self._heads: list[tuple[datetime, int, UUID]] = []  # of accounts with a free slot
        self._numbers = 0
        self.keys = {tier: view.now - timedelta(seconds=bonus) for tier, bonus in view.bonus_seconds.items()}
        for running in view.running:
            self._begin(running.account_id, running.slots, until=_seconds_left(view, running))
        for job in view.front:
            self._account(job.account_id, job.slots).waiting.append(job)
        for account_id in self._accounts:
            self._offer(account_id)

    def run(self) -> None:
        """Until every job at the front has started, and a job of each tier would."""
        free = self._view.pace.slots - len(self._ends)
        while self._view.pace.slots > 0:
            while free > 0 and self._heads:
                key, _, account_id = heapq.heappop(self._heads)
                self._note_others(before=key)
                self._start(account_id)
                free -= 1
            if free > 0:
                self._note_others(before=None)
            if not self._ends or (
                len(self.starts) == len(self._view.front) and len(self.others_seconds) == len(self.keys)
            ):
                break
            self._now, _, account_id = heapq.heappop(self._ends)
            free += 1
            self._accounts[account_id].running -= 1
            self._offer(account_id)

    def own_seconds(self) -> list[tuple[UUID, float]]:
        """When each account has a slot for a job that comes behind all of its own."""
        first_end: dict[UUID, float] = {}
        for end, _, account_id in sorted(self._ends):
            first_end.setdefault(account_id, end)
        return [
            (account_id, first_end.get(account_id, self._now) if account.free_at is None else account.free_at)
            for account_id, account in self._accounts.items()
        ]

    def _account(self, account_id: UUID, slots: int) -> _Account:
        return self._accounts.setdefault(account_id, _Account(slots))

    def _begin(self, account_id: UUID, slots: int, *, until: float) -> None:
        self._account(account_id, slots).running += 1
        self._numbers += 1
        heapq.heappush(self._ends, (until, self._numbers, account_id))

    def _offer(self, account_id: UUID) -> None:
        account = self._accounts[account_id]
        if account.is_offered or account.running >= account.slots:
            return
        if account.waiting:
            account.is_offered = True
            heapq.heappush(self._heads, (account.waiting[0].start_key, account.running, account_id))
        elif account.free_at is None:
            account.free_at = self._now

    def _start(self, account_id: UUID) -> None:
        account = self._accounts[account_id]
        account.is_offered = False
        job = account.waiting.popleft()
        self.starts[job.id] = self._now
        self._begin(account_id, account.slots, until=self._now + self._view.pace.seconds(jobs=1, trials=job.trials))
        self._offer(account_id)

    def _note_others(self, *, before: datetime | None) -> None:
        """A slot is free, and the next to take it has this key (None: nobody): who counts earlier would have it."""
        for tier, key in self.keys.items():
            if tier not in self.others_seconds and (before is None or key < before):
                self.others_seconds[tier] = self._now


class QueueBook:
    """The queue as this process last saw it, looked at when somebody asks and at most once a second."""

    def __init__(self, db: asyncpg.Pool, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._db = db
        self._clock = clock
        self._looked_at = float("-inf")
        self._forecast: Forecast | None = None
        self._looking = asyncio.Lock()

    def recent(self) -> Forecast | None:
        """What was last seen, if that was seconds ago; nobody looks anew."""
        return self._forecast if self._clock() - self._looked_at < RECENT_SECONDS else None

    async def forecast(self) -> Forecast | None:
        """None while the database is away: an estimate is never a reason to fail."""
        async with self._looking:
            if self._clock() - self._looked_at > LOOK_SECONDS:
                self._looked_at = self._clock()
                try:
                    self._forecast = forecast(await read_queue(self._db))
                except DATABASE_TROUBLE as error:
                    self._forecast = None
                    log.warning("queue not seen", reason=type(error).__name__)
            return self._forecast
