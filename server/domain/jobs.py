"""A job at each station of its way."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, NamedTuple, Protocol
from uuid import UUID

from msgspec import Struct

from evals.types import Conclusion, RowHistory
from server.domain.accounts import Credential
from server.domain.baselines import Against
from server.domain.changes import DEFAULT_SUITE, Change
from server.domain.packages import PackageRef
from server.domain.reporting import ReportSettings

Status = Literal["queued", "running", "completed", "failed"]
Cause = Literal["submit", "schedule", "baseline", "rerun"]  # only a submit may be answered by a cache


SuiteSource = Literal["request", "registry", "generated"]


class SentSuite(Struct, frozen=True, kw_only=True):
    """A suite that comes with the request, or was found for it outside of the package.

    `awaits_cases`: it has none yet, a model will write them, and `trials` is how many there may be.
    """

    id: str
    body: str  # canonical JSON
    trials: int  # on one model
    source: SuiteSource = "request"
    awaits_cases: bool = False


class NewJob(Struct, frozen=True, kw_only=True):
    """What the submit's statement is asked to keep. It finds version and suite by itself, in the same moment."""

    id: UUID
    credential: Credential
    key: str | None  # None: equal requests within seconds are one
    request_sha256: str
    force: bool
    package: PackageRef
    package_version: str | None
    snapshot_id: str | None
    suite: SentSuite | None
    models: list[str]
    framework: str
    upload_results: bool
    verify_results: bool
    plugins: list[str] = []
    may_cost: bool = True  # not all of its models are free
    max_cost_usd: float | None = None  # lowers the account's cap for this job
    cause: Cause = "submit"
    use_cache: bool = True
    outcome_settings: str | None = None  # digest under which an identical job's outcome may be kept; None: do not look
    outcome_days: int = 0  # how old that may be
    change: Change | None = None  # then its event is the key, beside the caller's own
    suite_name: str = DEFAULT_SUITE
    against: Against | None = None  # what it is compared with, and gates; None: nothing was said
    account: str | None = None  # the organisation that is billed; None: the caller's own account
    report: ReportSettings | None = None  # how its change's forge is told; None: as by default


class JobRequest(Struct, frozen=True, kw_only=True):
    """What a job was asked to do, for asking it again."""

    job_id: UUID
    account_id: UUID
    account_name: str
    package_id: UUID
    package_version: str
    snapshot_id: str
    suite: SentSuite
    suite_is_current: bool  # a submit without a suite would find this one
    models: list[str]
    plugins: list[str]
    framework: str
    upload_results: bool
    verify_results: bool
    max_cost_usd: float | None
    use_cache: bool
    suite_name: str
    against: Against | None


class Refused(Struct, frozen=True, kw_only=True):
    """Why the statement kept nothing, with what it found."""

    reason: str
    tier: str | None  # None: no account was found
    package: str | None  # name@version
    suite_error: str | None
    trials: int | None


class Submission(Struct, frozen=True, kw_only=True):
    """What a submit came to, now or at an earlier equal one."""

    job_id: UUID
    position: int
    wait_seconds: int
    runs_used: int
    run_limit: int | None
    tier: str
    money_level: int  # per cent of the month's money that was spent: 0, 50, 80 or 100
    request_sha256: str


class EqualSubmit(Struct, frozen=True, kw_only=True):
    """Nothing was kept, as an equal submit stands under this key."""

    account_id: UUID  # whose key it is: of whoever asked, or of the account that an event belongs to
    key: str

    @property
    def is_event(self) -> bool:
        """Whether a change's event is the key: whoever tells of it gets its job, in whatever words."""
        return self.key.startswith("event:")


# What a submit's statement says of it. None: the credential stands for nobody.
Submitted = Submission | EqualSubmit | Refused | None


class ClaimedJob(Struct, frozen=True, kw_only=True):
    """A job that this worker holds, with all that running it needs."""

    id: UUID
    fence: int
    attempt: int
    package_name: str
    package_version: str
    format: str
    subtype: str
    snapshot_id: str
    suite_body: str
    models: tuple[str, ...]
    plugins: tuple[str, ...]
    framework: str
    trials: int  # in all, finished ones of earlier leases included
    seconds_left: float
    seconds_run: float  # since its first start, whoever ran it
    money_cap: int  # nano-USD that it may cost in all
    spent: int  # nano-USD, by the leases before
    answer_tokens: int  # output tokens of one answer, at most
    asked_at: float  # of this process's monotonic clock: the lease began after it
    account_id: UUID
    use_cache: bool  # False: every model is asked anew
    is_public: bool  # anybody may see what is asked: a published package's own suite
    suite_source: str = "request"
    suite_name: str = DEFAULT_SUITE
    change: Change | None = None
    against: Against | None = None


class JobView(Struct, frozen=True, kw_only=True):
    """A job as its readers see it."""

    id: UUID
    fence: int  # grows with each start and each return to the queue; 0: never started
    attempt: int
    status: Status
    package_id: UUID
    package_name: str
    package_version: str
    models: list[str]
    plugins: list[str] | None
    framework: str
    suite_source: str
    conclusion: Conclusion | None
    results: str | None  # JSON of evals.outcome.Summary
    error_code: str | None
    error_message: str | None
    test_result_id: UUID | None
    trials_total: int
    trials_finished: int
    trials_passed: int
    trials_failed: int
    trials_errored: int
    position: int | None  # in the queue, from 1; None once it runs, or where it is not counted
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    cached_at: datetime | None  # when the identical job ended whose outcome this one shows
    suite_name: str
    change: Change | None
    superseded_by: UUID | None  # the job of a newer head, that ended this one
    unwanted: str | None = None  # why nobody waits for it any more though no newer head came, in a sentence
    is_reported_here: bool = False  # the service itself comments on its change
    previous: Conclusion | None = None  # of the last run of this change's line that had one

    @property
    def has_ended(self) -> bool:
        """Nothing about it changes any more."""
        return self.status in ("completed", "failed")


class ListedJob(Struct, frozen=True, kw_only=True):
    """A job as a line of a list."""

    id: UUID
    status: Status
    package_id: UUID
    package_name: str
    package_version: str
    models: list[str]
    conclusion: Conclusion | None
    results: str | None
    error_code: str | None
    error_message: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    is_cached: bool


class JobPlace(NamedTuple):
    """A place in a list of jobs: just behind this one."""

    created_at: datetime
    id: UUID


class JobEnd(Struct, frozen=True, kw_only=True):
    """How a job ends. `refund_reason` gives the run back."""

    status: Literal["completed", "failed"]
    conclusion: Conclusion | None = None
    summary: str | None = None
    outcome: str | None = None
    tokens: int = 0
    cost_usd: float = 0.0
    error_code: str | None = None
    error_message: str | None = None
    refund_reason: str | None = None
    kept: KeptOutcome | None = None  # None: the outcome answers for no other job
    framework: str | None = None  # what ran, where the job left it to be decided
    history: tuple[RowHistory, ...] = ()  # what later comparisons may count


class KeptOutcome(Struct, frozen=True, kw_only=True):
    """What makes an outcome answer for identical jobs."""

    settings: str  # digest of how its models are reached and asked
    results: str  # JSON of evals.outcome.Summary, as a job that is answered by it shows it
    deployments: tuple[str, ...]  # fingerprints of all that answered or judged
    versions: tuple[str, ...]  # what each of them said that it was
    asked_at: datetime  # when the oldest answer in it was asked for


class Wakeups(Protocol):
    """Tells workers that there is work. Best effort: the sweep finds what a lost one leaves."""

    async def wake(self) -> None:
        """One nudge; never raises."""
