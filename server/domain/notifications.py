"""What is told to whom: targets, notifications, and events that are no job."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from msgspec import Struct

from server.domain.changes import Change
from server.domain.reporting import ReportSettings

NotificationState = Literal["pending", "sent", "quiet", "dead"]
Event = Literal["job", "warning", "check", "state", "head"]
TargetMode = Literal["changes", "failures", "always"]


class LastNotification(Struct, frozen=True, kw_only=True):
    """What became of the newest row for a target."""

    state: NotificationState
    attempts: int
    reason: str | None
    at: datetime


class Target(Struct, frozen=True, kw_only=True):
    """Where an account is told, without what leads there."""

    id: UUID
    kind: str
    package_glob: str
    mode: TargetMode
    shown: str  # the address, masked
    created_at: datetime
    stopped_at: datetime | None
    stopped_reason: str | None
    last: LastNotification | None = None


class ClaimedNotification(Struct, frozen=True, kw_only=True):
    """A row of the outbox in our hands, under `fence`."""

    id: int
    fence: int
    news: int  # grows with each change of what is told
    attempts: int  # this one included
    event: Event
    job_id: UUID | None
    target_id: UUID | None  # None: the forge of the job's change
    account_id: UUID
    facts: str | None  # JSON of Warned, of domain.reporting.CheckState, or of domain.heads.Head
    created_at: datetime


class ReadTarget(Struct, frozen=True, kw_only=True):
    """A target as its notification needs it; the last three say what it was told of the subject before."""

    id: UUID
    account_id: UUID
    kind: str
    mode: TargetMode
    sealed: bytes
    previous: str | None
    previous_accepted_at: datetime | None
    message_id: str | None


class ToldJob(Struct, frozen=True, kw_only=True):
    """A job as it is told: to forges from its acceptance on, to all else when it has ended."""

    id: UUID
    account_id: UUID
    package_name: str
    package_version: str
    suite_name: str
    change: Change | None
    subject: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    status: str
    error_code: str | None
    unwanted: str | None  # why nobody waits for it any more though no newer head came
    error_message: str | None
    outcome: str | None  # JSON of evals.outcome.Outcome
    cached_at: datetime | None
    snapshot_id: str
    models: list[str]
    report: ReportSettings
    trials_total: int
    trials_finished: int  # while it runs
    trials_failed: int
    read_at: datetime  # of the database's clock

    @property
    def has_ended(self) -> bool:
        """Whether nothing about it changes any more."""
        return self.status in ("completed", "failed")


class Told(Struct, frozen=True, kw_only=True):
    """What a target knows from now on."""

    subject: str
    accepted_at: datetime
    conclusion: str | None = None
    message_id: str | None = None


class Notification(Struct, frozen=True, kw_only=True):
    """A row of the outbox, as owners and operators see it."""

    id: int
    event: Event
    job_id: UUID | None
    target_id: UUID | None
    state: NotificationState
    attempts: int
    next_at: datetime
    last_status: int | None
    last_error: str | None
    created_at: datetime
    settled_at: datetime | None


class OutboxRow(Struct, frozen=True, kw_only=True):
    """A notification with whose it is, for operators."""

    notification: Notification
    username: str
    kind: str
    shown: str | None


class OutboxCount(Struct, frozen=True, kw_only=True):
    """How many rows of a kind are in a state."""

    kind: str
    state: NotificationState
    rows: int
    oldest: datetime
    next_at: datetime | None


class Warned(Struct, frozen=True, kw_only=True):
    """An account has used so much of its month."""

    month: date
    kind: Literal["runs", "money"]
    level: int  # per cent: 50, 80 or 100
    used: Decimal
    most: Decimal
