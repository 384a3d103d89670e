"""A job comes in: everything is checked, then one statement keeps and charges it, then a wake-up leaves."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID, uuid4

import asyncpg
from msgspec import UNSET, Meta, Struct, structs

from evals.catalogue import ModelInfo
from evals.choosing import AUTO
from evals.errors import EngineError
from evals.suites import parse_suite_value, suite_digest
from evals.types import Framework
from server.domain.accounts import Credential, Usage
from server.domain.baselines import Against, Baseline, BaseSnapshot, GateRule, MinScore
from server.domain.changes import DEFAULT_SUITE, OWN_CAUSE, SUITE_NAME, Change, faults_of, plain_change
from server.domain.errors import (
    Conflict,
    InvalidRequest,
    MoneyExceeded,
    NoSuite,
    NotAllowed,
    NotFound,
    QuotaExceeded,
    ServiceError,
    Unavailable,
)
from server.domain.jobs import EqualSubmit, NewJob, Refused, SentSuite, Submission, Wakeups
from server.domain.models import AnnouncedModel
from server.domain.packages import PackageRef
from server.domain.tiers import TIERS, next_tier
from server.forges import FORGES
from server.services.admission import Admission
from server.services.against import check_against
from server.services.caching import outcome_settings
from server.services.identity import not_authenticated, read_caller
from server.services.missing_suites import TO_BE_WRITTEN, find_instead, refuse_choice, written_before
from server.services.on_behalf import acting_for, no_such_account, read_billed, role_lacks_right, token_lacks_right
from server.services.publishing import encode_canonical, trials_a_model
from server.services.selecting import with_cases
from server.services.superseding import supersede_soon
from server.services.upstream_registry import UpstreamRegistry
from server.store import jobs

PACKAGE_NAME = re.compile(r"(@[a-z0-9-]+/)?[a-z0-9-]+")
SNAPSHOT_ID = re.compile(r"[0-9a-f]{64}")
MOST_MODELS = 20
MOST_PLUGINS = 10
SUITE_PLACES = (
    "Send one with the request (`suite`, `prpm test --suite FILE`), put `prpm.test.yaml` into the working folder or "
    "`tests/prpm.json` into the package, or store one with PUT /api/v1/packages/{id}/suite. Or let a "
    "model write cases for the run (`generate`, `prpm test --generate`)."
)


class RunRequest(Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to test. Either `package_id` (an id or a name) or `snapshot_id`.

    What is left out is no part of the request's digest, so that a new field leaves the digests of old requests.

    With `change` the run belongs to one event: forge, repository id, pull request or ref, head, package, suite name and
    cause. Who sends the same event again gets the same job, whatever else it says; it is charged once. A job with
    cause `head` ends what waits or runs for older heads of its line (the same without head and cause); their runs are
    given back unless a trial had a verdict.
    """

    package_id: str | None = None
    snapshot_id: str | None = None
    package_version: str | None = None
    models: list[str] | None = None
    plugins: list[str] | None = None
    framework: Framework | None = None
    upload_results: bool | None = None
    verify_results: bool | None = None
    suite: dict[str, Any] | None = None
    cases: list[str] | None = None  # run only those whose titles hold one of these texts
    generate: bool | None = None  # where neither package nor registry has cases, the first model writes some
    force: bool | None = None
    cache: bool | None = None
    max_cost_usd: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None
    dry_run: bool | None = None
    change: Change | None = None
    suite_name: Annotated[str, Meta(examples=[DEFAULT_SUITE])] | None = None
    baseline: Baseline | None = None
    gate: GateRule | None = None
    min_score: MinScore | None = None
    base_snapshot_id: BaseSnapshot | None = None
    account: (
        Annotated[str, Meta(min_length=1, max_length=100, description="The organisation that is billed, by its name.")]
        | None
    ) = None


async def submit(
    db: asyncpg.Pool,
    admission: Admission,
    wakeups: Wakeups,
    credential: Credential,
    request: RunRequest,
    *,
    models: tuple[AnnouncedModel, ...],
    cache_days: int = 0,
    idempotency_key: str | None = None,
    registry: UpstreamRegistry | None = None,
) -> Submission:
    """The accepted job, or the one that an equal submit got before. `cache_days`: how old a kept outcome may be.

    `registry` is asked for cases where the package brings none.

    Who asks is found by the statement that keeps the job, which saves a round trip; only a refusal looks first.
    Raises NotAuthenticated, InvalidRequest, NotFound, NotAllowed, NoSuite, QuotaExceeded, Conflict, Unavailable,
    with nothing kept.
    """
    key = f"key:{idempotency_key}" if idempotency_key is not None else None
    try:
        _check_cause(request)
        new = await new_job(request, credential, key=key, models=models, cache_days=cache_days)
        new = await with_cases(db, new, request.cases or ())
        await check_against(db, new)
    except ServiceError as refusal:
        return await _earlier(db, credential, digest(request), account=request.account, key=key, refusal=refusal)
    try:
        return await submit_new(db, admission, wakeups, new)
    except NoSuite:
        instead = await with_suite_instead(db, new, request, registry=registry)
        if instead is None:
            raise
    return await submit_new(db, admission, wakeups, instead)


async def with_suite_instead(
    db: asyncpg.Pool, new: NewJob, request: RunRequest, *, registry: UpstreamRegistry | None
) -> NewJob | None:
    """The job with what stands in for a suite that its package does not bring; None where nothing does.

    Raises Unavailable, InvalidRequest, NoSuite.
    """
    suite = await find_instead(db, new, registry=registry, generate=request.generate is True)
    if suite is None:
        return None
    if suite == TO_BE_WRITTEN and (request.cases or request.dry_run):
        # Otherwise the statement that keeps the job looks for them.
        suite = await written_before(db, new) or suite
    if suite == TO_BE_WRITTEN and request.cases:
        raise refuse_choice()
    return await with_cases(db, structs.replace(new, id=uuid4(), suite=suite), request.cases or ())


async def submit_new(db: asyncpg.Pool, admission: Admission, wakeups: Wakeups, new: NewJob) -> Submission:
    """As `submit`, for a job that is described already."""
    try:
        submission = await _keep(db, admission, new)
    except ServiceError as refusal:
        return await _earlier(db, new.credential, new.request_sha256, account=new.account, key=new.key, refusal=refusal)
    # After the commit nothing may turn the answer into an error: a lost wake-up is the sweep's to find.
    await wakeups.wake()
    if new.change is not None and submission.job_id == new.id:
        await supersede_soon(db)
    return submission


async def new_job(
    request: RunRequest,
    credential: Credential,
    *,
    key: str | None,
    models: tuple[AnnouncedModel, ...],
    cache_days: int,
) -> NewJob:
    """What the request asks for, checked as far as needs no database.

    Raises InvalidRequest, and Unavailable while no model is known.
    """
    _check_change(request)
    chosen = choose_models(request.models, models)
    framework = choose_framework(request, [model for model in models if model.name in chosen])
    # What is shown to others is run, and what is verified asks every model anew.
    keeps_answers = request.cache is not False and not request.verify_results
    # What is compared is run: an outcome of earlier says nothing about this baseline.
    against = _against(request)
    is_compared = request.change is not None or (against is not None and against != Against(some_cases=True))
    is_plain = not request.upload_results and not request.plugins and chosen != [AUTO] and not is_compared
    may_be_answered = keeps_answers and is_plain and cache_days > 0
    return NewJob(
        id=uuid4(),
        credential=credential,
        key=key,
        request_sha256=digest(request),
        force=bool(request.force),
        package=_package_ref(request),
        package_version=request.package_version,
        snapshot_id=request.snapshot_id,
        suite=await _sent_suite(request),
        models=chosen,
        framework=framework,
        plugins=list(dict.fromkeys(request.plugins or ())),
        upload_results=bool(request.upload_results or request.verify_results),
        verify_results=bool(request.verify_results),
        use_cache=keeps_answers,
        outcome_settings=outcome_settings(models, chosen, framework=framework) if may_be_answered else None,
        outcome_days=cache_days,
        may_cost=may_cost(chosen, models),
        max_cost_usd=request.max_cost_usd,
        change=plain_change(request.change) if request.change is not None else None,
        suite_name=request.suite_name or DEFAULT_SUITE,
        against=against,
        account=request.account,
    )


def _against(request: RunRequest) -> Against | None:
    """What the request says about comparing; None: nothing."""
    against = Against(
        baseline=request.baseline,
        gate=request.gate,
        min_score=request.min_score,
        base_snapshot_id=request.base_snapshot_id,
        some_cases=bool(request.cases),
    )
    return against if against != Against() else None


def may_cost(chosen: Sequence[str], models: Sequence[ModelInfo]) -> bool:
    """Whether not all of these are free."""
    return any(model.free is not True for model in models if model.name in chosen or AUTO in chosen)


async def _keep(db: asyncpg.Pool, admission: Admission, new: NewJob) -> Submission:
    try:
        result = await admission.submit(new)
    except QuotaExceeded:
        raise await _quota_exceeded(db, new) from None
    match result:
        case Submission():
            return result
        case Refused(reason="quota_exceeded"):
            raise await _quota_exceeded(db, new)
        case Refused():
            raise refusal(result, new)
        case EqualSubmit() as equal:
            earlier = await jobs.read_submission(db, equal.account_id, equal.key)
            if earlier is None:  # it was cleaned up since: ask again
                raise Unavailable("An equal request was just being removed. Send this one again.")
            return earlier if equal.is_event else _replay(earlier, new.request_sha256)
        case None:
            raise not_authenticated()


async def _earlier(
    db: asyncpg.Pool,
    credential: Credential,
    request_sha256: str,
    *,
    account: str | None,
    key: str | None,
    refusal: ServiceError,
) -> Submission:
    """The answer that this key got when the request could still be served. Raises `refusal` if there is none.

    Raises NotAuthenticated, what keeps the caller from billing the account, or its tier's refusal, before any other.
    """
    caller = await read_caller(db, credential)
    earlier = await jobs.read_submission(db, caller.asker_id, key) if key is not None else None
    if earlier is not None:
        return _replay(earlier, request_sha256)
    billed = await acting_for(db, caller, account, "run")
    raise free_tier() if TIERS[billed.tier].runs_per_month == 0 else refusal


def _replay(earlier: Submission, request_sha256: str) -> Submission:
    if earlier.request_sha256 != request_sha256:
        raise Conflict(
            "This Idempotency-Key was used for another request. Use a new key for a new run.",
            code="idempotency_conflict",
        )
    return earlier


async def _quota_exceeded(db: asyncpg.Pool, new: NewJob) -> QuotaExceeded:
    from server.services.usage import read_usage

    usage = await read_usage(db, await read_billed(db, new.credential, new.account))
    larger = next_tier(usage.tier)
    if usage.runs_per_month is None or usage.test_runs_count < usage.runs_per_month:
        return _money_exceeded(usage)
    advice = f" {larger.title} ({larger.price}) has more: `prpm subscribe`." if larger else ""
    return QuotaExceeded(
        f"All {usage.runs_per_month} test runs of this month are used; new ones start on {usage.resets_on}.{advice}",
        resets_at=f"{usage.resets_on}T00:00:00Z",
    )


def _money_exceeded(usage: Usage) -> MoneyExceeded:
    return MoneyExceeded(
        f"The ${usage.money_per_month_usd:.2f} a month that this account's models may cost are used up; the next month "
        f"starts on {usage.resets_on}. Until then test with free models, or ask the operator for a larger cap.",
        resets_at=f"{usage.resets_on}T00:00:00Z",
    )


def free_tier() -> NotAllowed:
    """What a free account is told at the door of hosted testing."""
    plus = TIERS["plus"]
    return NotAllowed(
        f"Hosted testing needs {plus.title} ({plus.price}, {plus.runs_per_month} test runs a month): `prpm subscribe`. "
        "Or test on your own machine, free of charge: `prpm test --local`.",
        code="free_tier",
    )


def choose_framework(request: RunRequest, chosen: Sequence[AnnouncedModel]) -> Framework:
    """What is kept with the job. A worker decides on `auto`, as it reads the package. Raises InvalidRequest."""
    asked = request.framework or "auto"
    without = [model.name for model in chosen if model.agents is not True]
    if asked == "claude-agent" and without:
        raise InvalidRequest(
            f"framework: no agent can be run on {', '.join(without)} by this service. Use `litellm` or `auto`.",
            code="framework_unavailable",
            details=[f"framework: {name} runs no agents here" for name in without],
        )
    if request.plugins:
        _check_plugins(request.plugins, asked, chosen)
    return asked


def _check_plugins(asked: Sequence[str], framework: Framework, chosen: Sequence[AnnouncedModel]) -> None:
    known = {name for model in chosen for name in model.plugins or ()}
    details = [
        f"plugins[{position}]: there is no plugin {_shown(name)!r}"
        for position, name in enumerate(asked[:MOST_PLUGINS])
        if name not in known
    ]
    if framework == "litellm":
        details = ["plugins: they are for agents; leave them out, or use the framework claude-agent"]
    if len(asked) > MOST_PLUGINS:
        details = [f"plugins: at most {MOST_PLUGINS} plugins a job, not {len(asked)}"]
    if details:
        listed = ", ".join(sorted(known)) or "none; the operator names them in PRPM_PLUGINS"
        raise InvalidRequest(f"{details[0]}. Usable plugins: {listed}.", code="unknown_plugin", details=details)


def _check_cause(request: RunRequest) -> None:
    """The service names its own runs by words that no token may send, so that nobody takes their place."""
    if request.change is not None and request.change.cause.startswith(OWN_CAUSE):
        words = f"change.cause: {OWN_CAUSE} is how the service names its own runs; send another word"
        raise InvalidRequest(f"{words}.", code="invalid_change", details=[words])


def _check_change(request: RunRequest) -> None:
    faults = faults_of(request.change) if request.change is not None else []
    if request.change is not None and request.change.forge not in FORGES:
        faults.insert(0, f"change.forge: must be one of {', '.join(FORGES)}")
    pattern, words = SUITE_NAME
    if request.suite_name is not None and not pattern.fullmatch(request.suite_name):
        faults.append(f"suite_name: {words}")
    if faults:
        raise InvalidRequest(f"{faults[0]}.", code="invalid_change", details=faults)


def choose_models(asked: list[str] | None, known: Sequence[ModelInfo]) -> list[str]:
    """The names to run, by default the catalogue's own; `auto` alone stays as it is.

    Raises InvalidRequest, and Unavailable while none is known.
    """
    if not known:
        raise Unavailable("No worker has started yet, so no model is known. Try again in a few seconds.")
    usable = [model.name for model in known if model.reachable]
    if asked == [AUTO] and usable:
        return [AUTO]
    if asked is None:
        asked = [model.name for model in known if model.default]
    names = {model.name: model for model in known}
    details = [finding for i, name in enumerate(asked) if (finding := _finding(i, name, asked, names))]
    if not asked:
        details = ["models: must name at least one model"]
    if len(asked) > MOST_MODELS:
        details = [f"models: at most {MOST_MODELS} models a job, not {len(asked)}"]
    if details:
        listed = ", ".join(usable) or "none: the operator has to set a vendor's key or PRPM_LITELLM_PROXY_URL"
        raise InvalidRequest(f"{details[0]}. Usable models: {listed}.", code="invalid_models", details=details)
    return list(asked)


def _finding(position: int, name: str, asked: list[str], known: Mapping[str, ModelInfo]) -> str | None:
    shown = _shown(name)
    if name == AUTO:
        return f"models[{position}]: auto chooses one model, so it stands alone"
    if name not in known:
        return f"models[{position}]: there is no model {shown!r}"
    if not known[name].reachable:
        return f"models[{position}]: {shown} cannot be reached from this service"
    if known[name].free is not True and known[name].price is UNSET:
        return f"models[{position}]: {shown} has no known price, so what it may cost cannot be capped"
    if name in asked[:position]:
        return f"models[{position}]: {shown} is named twice"
    return None


def _shown(name: str) -> str:
    shown = name if len(name) <= 60 else name[:60] + "…"
    return "".join(c if c.isprintable() else "�" for c in shown)


def _package_ref(request: RunRequest) -> PackageRef:
    if request.snapshot_id is not None:
        if request.package_id is not None or request.package_version is not None:
            raise InvalidRequest("Send either `package_id` (with `package_version`) or `snapshot_id`, not both.")
        if not SNAPSHOT_ID.fullmatch(request.snapshot_id):
            raise InvalidRequest("snapshot_id: must be the 64 hex digits that POST /api/v1/package-snapshots answered.")
        return PackageRef()
    if request.package_id is None:
        raise InvalidRequest("Say what to test: `package_id` (an id or a name) or `snapshot_id`.")
    if request.package_version is not None and not 0 < len(request.package_version) <= 50:
        raise InvalidRequest("package_version: must be a version such as 1.2.0, of at most 50 characters.")
    return parse_package_ref(request.package_id)


def parse_package_ref(text: str) -> PackageRef:
    """A package by id or name. Raises InvalidRequest for what can be neither (I3)."""
    try:
        if len(text) == 36:
            return PackageRef(id=UUID(text))
    except ValueError:
        pass
    if len(text) > 214 or not PACKAGE_NAME.fullmatch(text):
        raise InvalidRequest(
            "package_id: must be a package's id, or a name such as @author/package in lower case.",
            code="invalid_package_name",
            details=["package_id: not an id and not a package name"],
        )
    return PackageRef(name=text)


async def _sent_suite(request: RunRequest) -> SentSuite | None:
    if request.suite is None:
        return None
    try:
        suite = await asyncio.to_thread(parse_suite_value, request.suite, path="suite")
    except EngineError as error:
        raise InvalidRequest(error.message, code="invalid_suite", details=error.details) from None
    return SentSuite(id=suite_digest(suite), body=encode_canonical(suite).decode(), trials=trials_a_model(suite))


def refusal(refused: Refused, new: NewJob) -> ServiceError:
    """What the statement's word means for the caller."""
    tier = TIERS[refused.tier or "free"]
    first, *details = (refused.suite_error or "").split("\n")
    words: dict[str, Callable[[], ServiceError]] = {
        "account_not_found": lambda: no_such_account(new.account or ""),
        "role_may_not_run": lambda: role_lacks_right(new.account or ""),
        "token_may_not_run": lambda: token_lacks_right("run"),
        "may_not_publish": lambda: NotAllowed(
            "Your role, or this token, does not allow to upload or verify results. Leave out -u and -v.",
            code="may_not_publish",
        ),
        "other_repository": lambda: NotAllowed(
            "This token is for the jobs of one repository: send its `change`, with `repository_id` as in the token "
            "that was exchanged.",
            code="other_repository",
        ),
        "free_tier": free_tier,
        "not_the_owner": lambda: NotAllowed(
            "Only the package's owner may upload or verify results. Leave out -u and -v."
        ),
        "cannot_verify": lambda: InvalidRequest(
            "Verified results need a published version, tested by the suite in it or stored for it. Leave out -v.",
            code="cannot_verify",
        ),
        "invalid_suite": lambda: InvalidRequest(first, code="invalid_suite", details=details),
        "no_suite": lambda: NoSuite(f"{refused.package} has no tests. {SUITE_PLACES}"),
        "too_many_trials": lambda: InvalidRequest(
            f"This is {refused.trials} trials (cases × models × repeats); {tier.title} runs at most "
            f"{tier.trials_per_job} a job. Test fewer models or repeats, or split the suite.",
            code="too_many_trials",
        ),
        "package_not_found": lambda: no_such_package(new),
    }
    return words[refused.reason]()


def no_such_package(new: NewJob) -> NotFound:
    """One answer for what is not there and what is not theirs."""
    what = f"snapshot {new.snapshot_id[:12]}" if new.snapshot_id else f"package {new.package.name or new.package.id}"
    at = f" in version {new.package_version}" if new.package_version else ""
    return NotFound(f"There is no {what}{at} that you may test.", code="package_not_found")


def digest(value: Any) -> str:
    """Hex SHA-256 of the value as canonical JSON."""
    return hashlib.sha256(encode_canonical(value)).hexdigest()
