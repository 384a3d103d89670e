"""The service's answers as Structs. Only what the command needs is required, so older servers fit."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from evals.registry_cases import RegistryCase

# Servers say "unlimited" with a number, as clients of the first hour know no other word.
UNLIMITED = 1_000_000_000


class PackageRef(Struct, frozen=True, kw_only=True):
    """Names one version of a package."""

    id: str
    name: str = ""
    version: str = ""


class PackageVersion(Struct, frozen=True, kw_only=True):
    """Where a version's files are. `content_hash`: hex SHA-256 of the archive."""

    tarball_url: str
    version: str = ""
    content_hash: str | None = None


class RegistryCases(Struct, frozen=True, kw_only=True):
    """What the registry keeps for a package without a suite."""

    test_cases: tuple[RegistryCase, ...] = ()


class PackageInfo(Struct, frozen=True, kw_only=True):
    """A package as the registry shows it."""

    id: str
    name: str
    format: str | None = None
    subtype: str | None = None
    latest_version: PackageVersion | None = None


class Snapshot(Struct, frozen=True, kw_only=True):
    """An uploaded working folder."""

    snapshot_id: str
    package: PackageRef | None = None
    created: bool = True


class JobUsage(Struct, frozen=True, kw_only=True):
    """The month's runs, as the submit answer tells them."""

    tests_used_this_month: int
    tests_remaining: int
    tier: str = ""
    unlimited: bool = False

    @property
    def limit(self) -> int | None:
        """Runs a month; None for unlimited."""
        total = self.tests_used_this_month + self.tests_remaining
        return None if self.unlimited or total >= UNLIMITED else total


class SubmittedJob(Struct, frozen=True, kw_only=True):
    """What comes back from a submit."""

    job_id: str
    status: str
    position_in_queue: int | None = None
    estimated_wait_seconds: float | None = None
    usage: JobUsage | None = None
    warnings: tuple[str, ...] = ()


class Asking(Struct, frozen=True, kw_only=True):
    """A trial that has not finished: the first of them in the suite's order."""

    case: str = ""
    model: str = ""
    repeat: int = 1


class TrialDone(Struct, frozen=True, kw_only=True):
    """A trial that has just finished."""

    state: str
    case: str = ""
    model: str = ""
    repeat: int = 1


class Started(Struct, frozen=True, kw_only=True):
    """A worker has the job."""

    attempt: int = 1
    trials_total: int = 0
    asking: Asking | None = None


class Queued(Struct, frozen=True, kw_only=True):
    """The job waits."""

    position_in_queue: int | None = None


class Progress(Struct, frozen=True, kw_only=True):
    """How far a running job is."""

    trials_total: int = 0
    trials_finished: int = 0
    passed: int = 0
    failed: int = 0
    errored: int = 0
    asking: Asking | None = None


class ModelShown(Struct, frozen=True):
    """What a model's passed trials cost each, where that is known."""

    cost_usd_per_pass: float | None = None


class AgreementShown(Struct, frozen=True, kw_only=True):
    """How often the judges said the same again; `share` is 0..1."""

    share: float
    n: int


class Summary(Struct, frozen=True, kw_only=True):
    """The sums of a finished job. Scores are 0..1. `tests_failed` counts errors too, as in the API."""

    total_tests: int
    tests_passed: int
    tests_failed: int
    overall_score: float
    total_duration_ms: float = 0
    total_tokens: int = 0
    total_cost_usd: float = 0.0
    tests_errored: int = 0
    tests_skipped: int = 0
    conclusion: str | None = None
    cost_is_partial: bool = False
    trials_cached: int = 0
    cached: bool = False
    cached_at: str | None = None
    test_result_id: str | None = None
    stopped_by: str | None = None
    notes: tuple[str, ...] = ()
    derived_metrics: dict[str, dict[str, float]] = {}
    judge_agreement: AgreementShown | None = None
    by_model: dict[str, ModelShown] = {}

    @property
    def concluded(self) -> str:
        """passed, failed or inconclusive; worked out where an older server does not say it."""
        if self.conclusion:
            return self.conclusion
        return "passed" if self.total_tests and not self.tests_failed else "failed"


class Job(Struct, frozen=True, kw_only=True):
    """A job's state."""

    id: str
    status: Literal["queued", "running", "completed", "failed"]
    package: PackageRef | None = None
    results: Summary | None = None
    error: str | None = None
    code: str | None = None
    superseded_by: str | None = None
    progress: Progress | None = None
    position_in_queue: int | None = None


class ListedJob(Struct, frozen=True, kw_only=True):
    """A job as a line of the list."""

    id: str
    status: str
    created_at: str
    package: PackageRef | None = None
    models: tuple[str, ...] = ()
    results: Summary | None = None
    conclusion: str | None = None
    error: str | None = None
    cached: bool = False


class JobList(Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first."""

    jobs: tuple[ListedJob, ...]
    cursor: str | None = None


class AssertionShown(Struct, frozen=True, kw_only=True):
    """One assertion's word."""

    type: str
    passed: bool
    score: float = 0.0
    reason: str = ""
    metric: str | None = None
    turn: int | None = None  # which answer of a conversation it judged; None: the last one

    @property
    def label(self) -> str:
        return self.type if self.turn is None else f"{self.type} (turn {self.turn})"


class ErrorShown(Struct, frozen=True, kw_only=True):
    """Why there is no verdict."""

    message: str
    kind: str = ""


class CacheShown(Struct, frozen=True, kw_only=True):
    """What a cache did for an answer: hit, miss or bypass."""

    state: str
    reason: str = ""


class AttemptShown(Struct, frozen=True, kw_only=True):
    """One call of one deployment."""

    deployment: str
    duration_ms: float = 0
    error: str | None = None
    status: int | None = None


class TrialShown(Struct, frozen=True, kw_only=True):
    """One of several trials of a row."""

    state: str
    score: float = 0.0
    response: str = ""
    duration_ms: float = 0
    assertions: tuple[AssertionShown, ...] = ()
    error: ErrorShown | None = None
    answered_by: str | None = None
    attempts: tuple[AttemptShown, ...] = ()
    cache: CacheShown | None = None


class RateShown(Struct, frozen=True, kw_only=True):
    """Passed trials out of those with a verdict; `low` and `high` hold the true rate with 95 % confidence."""

    passed: int
    total: int
    low: float = 0.0
    high: float = 1.0


class ChangeShown(Struct, frozen=True, kw_only=True):
    """What a comparison says about a row."""

    status: str
    rule: str = ""
    baseline: RateShown | None = None
    reruns: RateShown | None = None
    p_value: float | None = None


class ComparisonShown(Struct, frozen=True, kw_only=True):
    """A run against its baseline."""

    rule: str
    rows: dict[str, int] = {}
    baseline_trials: int = 0
    rerun_trials: int = 0
    base_trials: int = 0
    removed: tuple[dict[str, Any], ...] = ()
    changed: tuple[dict[str, Any], ...] = ()
    source: SourceShown | None = None


class SourceShown(Struct, frozen=True, kw_only=True):
    """Where a service found the baseline."""

    kind: str
    name: str
    jobs: int = 0
    newest_at: str | None = None


class GateShown(Struct, frozen=True, kw_only=True):
    """What decided the conclusion."""

    decided_by: str
    reasons: tuple[str, ...] = ()


class RowShown(Struct, frozen=True, kw_only=True):
    """One case on one model."""

    title: str
    passed: bool
    score: float
    response: str = ""
    model: str = ""
    duration_ms: float = 0
    assertions: tuple[AssertionShown, ...] = ()
    state: str | None = None
    error: ErrorShown | None = None
    answered_by: str | None = None
    attempts: tuple[AttemptShown, ...] = ()
    cache: CacheShown | None = None
    trials: tuple[TrialShown, ...] = ()
    pass_rate: RateShown | None = None
    stopped_early: bool = False
    quarantined: bool = False
    change: ChangeShown | None = None

    @property
    def stands(self) -> str:
        """passed, failed, error or skipped."""
        return self.state or ("passed" if self.passed else "failed")


class Results(Struct, frozen=True, kw_only=True):
    """Every row, and the sums where the server repeats them."""

    test_cases: tuple[RowShown, ...]
    summary: dict[str, Any] = {}
    comparison: ComparisonShown | None = None
    gate: GateShown | None = None


class CountRange(Struct, frozen=True, kw_only=True):
    """From the least that is likely to the most."""

    low: int
    high: int


class MoneyRange(Struct, frozen=True, kw_only=True):
    """USD."""

    low: float
    high: float


class ModelShare(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one model takes of a run."""

    model: str
    calls: CountRange
    tokens: CountRange
    cost_usd: MoneyRange | None = None


class EstimateCaps(Struct, frozen=True, kw_only=True):
    """What the estimate was held against."""

    tests_remaining: int
    trials_per_job: int
    money_per_job_usd: float
    money_left_usd: float


class Estimate(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run would take."""

    dry_run: Literal[True]
    package: PackageRef
    suite_source: str
    cases: int
    trials: int
    models: tuple[ModelShare, ...]
    tokens: CountRange
    caps: EstimateCaps
    fits: Literal["yes", "maybe", "no"]
    judges: tuple[ModelShare, ...] = ()
    obstacles: tuple[str, ...] = ()
    cost_usd: MoneyRange | None = None


class MonthUsage(Struct, frozen=True, kw_only=True):
    """What the month holds so far."""

    test_runs_count: int
    tokens_used: int = 0
    cost_usd: float = 0.0


class TierLimits(Struct, frozen=True, kw_only=True):
    """What the tier allows."""

    tier: str
    test_runs_per_month: int
    concurrent_jobs: int
    unlimited: bool = False


class Remaining(Struct, frozen=True, kw_only=True):
    """What is left of the month."""

    test_runs: int


class AccountCaps(Struct, frozen=True, kw_only=True):
    """What one job may be, and what models may cost in USD."""

    trials_per_job: int
    output_tokens_per_answer: int
    seconds_per_job: int
    money_per_job_usd: float
    money_per_month_usd: float
    money_left_usd: float
    money_held_usd: float = 0.0


class UsageReport(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answer of test-usage."""

    current_month: MonthUsage
    limits: TierLimits
    remaining: Remaining
    caps: AccountCaps | None = None


class OrganizationShown(Struct, frozen=True, kw_only=True):
    """An organisation that the user is a member of."""

    name: str
    role: str = ""


class User(Struct, frozen=True, kw_only=True):
    """Who a token belongs to."""

    username: str
    id: str | None = None
    email: str | None = None
    organizations: tuple[OrganizationShown, ...] = ()


class PriceShown(Struct, frozen=True, kw_only=True):
    """USD per million tokens."""

    input: float
    output: float


class ModelEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that can be asked for."""

    name: str
    reachable: bool = True
    default: bool = False
    price: PriceShown | None = None
    free: bool = False
    retired: str | None = None  # date from which the vendor no longer serves the original
    successor: str | None = None  # the id that answers then
    label: str | None = None


class ModelList(Struct, frozen=True, kw_only=True):
    """The server's catalogue as users see it."""

    models: tuple[ModelEntry, ...]


class Refusal(Struct, frozen=True, kw_only=True):
    """The body of an error answer."""

    error: str | None = None
    message: str | None = None
    code: str | None = None
    details: Any = None  # a list of lines by contract; older servers put objects here
    statusCode: int | None = None  # noqa: N815 - the registry's own spelling


class SigningKey(Struct, frozen=True, kw_only=True):
    """A service's public key, 64 hex digits."""

    key: str


class SigningKeys(Struct, frozen=True, kw_only=True):
    """All keys that a service signs or has signed with."""

    keys: tuple[SigningKey, ...]


class NotifyLast(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a target's newest message."""

    state: str
    at: str
    attempts: int = 0
    reason: str | None = None


class TrustedRepository(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A repository whose workflows need no key. `proof`: why it is believed to be the account's."""

    id: str
    account: str
    repository: str
    issuer: str = ""
    repository_id: int = 0
    owner_id: int = 0
    scopes: tuple[str, ...] = ()
    proof: str = ""
    workflow: str | None = None
    allowed_events: tuple[str, ...] | None = None


class TrustedRepositories(Struct, frozen=True, kw_only=True):
    """All of an account's."""

    trusted_repositories: tuple[TrustedRepository, ...]


class NotifyTarget(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where an account is told. `secret` is there once, when the target is new."""

    id: str
    kind: str
    address: str
    package: str
    on: str
    state: str
    created_at: str = ""
    stopped_at: str | None = None
    stopped_reason: str | None = None
    last_notification: NotifyLast | None = None
    secret: str | None = None


class NotifyTargets(Struct, frozen=True, kw_only=True):
    """All of an account's targets."""

    targets: tuple[NotifyTarget, ...]


class NotifyCheck(Struct, frozen=True, kw_only=True):
    """The message that says that a target works."""

    notification_id: int


class NotifyMessage(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message on its way: pending, sent, quiet or dead."""

    id: int
    state: str
    attempts: int
    event: str = ""
    created_at: str = ""
    job_id: str | None = None
    http_status: int | None = None
    reason: str | None = None
    next_at: str | None = None
    settled_at: str | None = None


class NotifyMessages(Struct, frozen=True, kw_only=True):
    """A target's latest messages, newest first."""

    notifications: tuple[NotifyMessage, ...]


class Hook(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook. `secret` is there once, when it is new."""

    id: str
    forge: str
    name: str
    url: str
    is_group: bool = False
    proof: str = "signature"
    created_at: str = ""
    created_by: str = ""
    repository_id: int | None = None
    token: str | None = None
    rotated_at: str | None = None
    old_secret_until: str | None = None
    last_delivery_at: str | None = None
    token_refused_at: str | None = None
    token_refused: str | None = None
    secret: str | None = None
    secret_field: str | None = None
    content_type: str | None = None
    events: tuple[str, ...] = ()


class Hooks(Struct, frozen=True, kw_only=True):
    """All of an account's webhooks."""

    hooks: tuple[Hook, ...]
