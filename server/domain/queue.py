"""What waits and what runs, as one look at the database found it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from msgspec import Struct


class JobTime(NamedTuple):
    """Seconds: a job of n trials takes about `job + n * trial`; `mean` of all, 0 before the first."""

    mean: float
    job: float
    trial: float


class Pace(Struct, frozen=True, kw_only=True):
    """How fast live workers are: a job of n trials takes about `job_seconds + n * trial_seconds`."""

    slots: int  # of all workers: jobs that can run at once
    job_seconds: float
    trial_seconds: float

    def seconds(self, *, jobs: int, trials: int) -> float:
        """That this much takes one slot."""
        return jobs * self.job_seconds + trials * self.trial_seconds


class WaitingJob(NamedTuple):
    """A job in the queue. `slots`: how many its account may run at once."""

    id: UUID
    account_id: UUID
    slots: int
    trials: int
    start_key: datetime


class RunningJob(NamedTuple):
    """A job with a live lease."""

    id: UUID
    account_id: UUID
    slots: int
    trials: int
    finished: int  # of the trials
    started_at: datetime


class Arrivals(NamedTuple):
    """What an account's tier sent lately, in this many seconds."""

    tier: str
    jobs: int
    trials: int
    seconds: float


class QueueView(Struct, frozen=True, kw_only=True):
    """The queue at one moment of the database's clock: its front job by job, and how much stands behind."""

    now: datetime
    pace: Pace
    front: tuple[WaitingJob, ...]  # in the order of start keys
    running: tuple[RunningJob, ...]
    arrivals: tuple[Arrivals, ...]
    jobs_behind: int
    trials_behind: int
    bonus_seconds: Mapping[str, float]  # by tier: how much earlier than its submit a job counts


class Outlook(Struct, frozen=True, kw_only=True):
    """How long a job that comes now will wait, in seconds: the longer of the two."""

    others_seconds: Mapping[str, float]  # by tier: until all that counts earlier has started
    own_seconds: Mapping[str, float]  # by account, of those that have to wait for their own jobs first
