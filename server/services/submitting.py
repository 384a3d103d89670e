"""A job comes in: everything is checked, then one statement keeps and charges it, then a wake-up leaves."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import Any, Literal
from uuid import UUID, uuid4

import asyncpg
import msgspec
from msgspec import Struct

from evals.catalogue import ModelInfo
from evals.errors import EngineError
from evals.suites import parse_suite_value, suite_digest
from evals.types import Suite
from server.domain.accounts import Caller
from server.domain.errors import (
    Conflict,
    InvalidRequest,
    NoSuite,
    NotAllowed,
    NotFound,
    QuotaExceeded,
    Unavailable,
)
from server.domain.jobs import NewJob, Submission, Wakeups
from server.domain.packages import PackageRef, RunnableVersion
from server.domain.tiers import TIERS, next_tier
from server.services.publishing import encode_canonical
from server.store import jobs, packages

PACKAGE_NAME = re.compile(r"(@[a-z0-9-]+/)?[a-z0-9-]+")
SNAPSHOT_ID = re.compile(r"[0-9a-f]{64}")
MOST_MODELS = 20
SUITE_PLACES = (
    "Send one with the request (`suite`, `prpm test --suite FILE`), put `prpm.test.yaml` into the working folder or "
    "`tests/prpm.json` into the package, or store one with PUT /api/v1/packages/{id}/suite."
)


class RunRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """What to test. Either `package_id` (an id or a name) or `snapshot_id`."""

    package_id: str | None = None
    snapshot_id: str | None = None
    package_version: str | None = None
    models: list[str] | None = None
    plugins: list[str] | None = None
    framework: Literal["litellm", "claude-agent", "auto"] | None = None
    upload_results: bool | None = None
    verify_results: bool | None = None
    suite: dict[str, Any] | None = None
    force: bool | None = None


class _Suite(Struct, frozen=True, kw_only=True):
    id: str
    body: str | None  # None: it is stored already
    source: str
    trials_a_model: int


async def submit(
    db: asyncpg.Pool,
    wakeups: Wakeups,
    caller: Caller,
    request: RunRequest,
    *,
    models: tuple[ModelInfo, ...],
    idempotency_key: str | None = None,
) -> Submission:
    """The accepted job, or the one that an equal submit got before.

    Raises InvalidRequest, NotFound, NotAllowed, NoSuite, QuotaExceeded, Conflict, Unavailable, with nothing kept.
    """
    request_sha256 = _hash(request)
    if idempotency_key is not None:
        earlier = await jobs.read_submission(db, caller.id, f"key:{idempotency_key}")
        if earlier is not None:
            return _replay(earlier, request_sha256)
    _check_tier(caller)
    _check_framework(request)
    chosen = _choose_models(request.models, models)
    version = await _find_version(db, caller, request)
    _check_upload(caller, request, version)
    suite = await _choose_suite(request, version)
    _check_size(caller, suite.trials_a_model * len(chosen))
    new = NewJob(
        id=uuid4(),
        account_id=caller.id,
        caller_id=caller.id,
        key=f"key:{idempotency_key}"
        if idempotency_key is not None
        else f"body:{_hash((request_sha256, version.version, version.snapshot_id, suite.id))}",
        request_sha256=request_sha256,
        key_is_body=idempotency_key is None,
        force=bool(request.force),
        package_id=version.package_id,
        package_version=version.version,
        snapshot_id=version.snapshot_id,
        suite_id=suite.id,
        suite_body=suite.body,
        suite_source=suite.source,
        models=chosen,
        plugins=None,
        framework="litellm",
        upload_results=bool(request.upload_results or request.verify_results),
        verify_results=bool(request.verify_results),
        trials_total=suite.trials_a_model * len(chosen),
    )
    submission = await _keep(db, caller, new)
    # After the commit nothing may turn the answer into an error: a lost wake-up is the sweep's to find.
    await wakeups.wake()
    return submission


async def _keep(db: asyncpg.Pool, caller: Caller, new: NewJob) -> Submission:
    try:
        submission = await jobs.submit_job(db, new)
    except QuotaExceeded:
        raise await _quota_exceeded(db, caller) from None
    if submission is None:
        raise NotAllowed("This account is not active.")
    if submission.job_id is not None:
        return submission
    earlier = await jobs.read_submission(db, caller.id, new.key)
    if earlier is None:  # the tier fell to one without runs since the caller was read
        raise free_tier()
    return _replay(earlier, new.request_sha256)


def _replay(earlier: Submission, request_sha256: str) -> Submission:
    if earlier.request_sha256 != request_sha256:
        raise Conflict(
            "This Idempotency-Key was used for another request. Use a new key for a new run.",
            code="idempotency_conflict",
        )
    return earlier


async def _quota_exceeded(db: asyncpg.Pool, caller: Caller) -> QuotaExceeded:
    from server.services.usage import read_usage

    usage = await read_usage(db, caller)
    larger = next_tier(usage.tier)
    advice = f" {larger.title} ({larger.price}) has more: `prpm subscribe`." if larger else ""
    return QuotaExceeded(
        f"All {usage.runs_per_month} test runs of this month are used; new ones start on {usage.resets_on}.{advice}",
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


def _check_tier(caller: Caller) -> None:
    if TIERS[caller.tier].runs_per_month == 0:
        raise free_tier()


def _check_framework(request: RunRequest) -> None:
    if request.framework == "claude-agent":
        raise InvalidRequest(
            "framework: the Claude agent framework is not available on this service yet. Use `litellm` or `auto`.",
            code="framework_unavailable",
            details=["framework: must be litellm or auto"],
        )
    if request.plugins:
        raise InvalidRequest(
            "plugins: no plugins are available on this service yet. Leave `plugins` out.",
            code="unknown_plugin",
            details=["plugins: the catalogue holds none"],
        )


def _choose_models(asked: list[str] | None, known: tuple[ModelInfo, ...]) -> list[str]:
    if not known:
        raise Unavailable("No worker has started yet, so no model is known. Try again in a few seconds.")
    usable = [model.name for model in known if model.reachable]
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


def _finding(position: int, name: str, asked: list[str], known: dict[str, ModelInfo]) -> str | None:
    shown = name if len(name) <= 60 else name[:60] + "…"
    shown = "".join(c if c.isprintable() else "�" for c in shown)
    if name not in known:
        return f"models[{position}]: there is no model {shown!r}"
    if not known[name].reachable:
        return f"models[{position}]: {shown} cannot be reached from this service"
    if name in asked[:position]:
        return f"models[{position}]: {shown} is named twice"
    return None


async def _find_version(db: asyncpg.Pool, caller: Caller, request: RunRequest) -> RunnableVersion:
    ref = PackageRef()
    if request.snapshot_id is not None:
        if request.package_id is not None or request.package_version is not None:
            raise InvalidRequest("Send either `package_id` (with `package_version`) or `snapshot_id`, not both.")
        if not SNAPSHOT_ID.fullmatch(request.snapshot_id):
            raise InvalidRequest("snapshot_id: must be the 64 hex digits that POST /api/v1/package-snapshots answered.")
    elif request.package_id is not None:
        ref = parse_package_ref(request.package_id)
        if request.package_version is not None and not 0 < len(request.package_version) <= 50:
            raise InvalidRequest("package_version: must be a version such as 1.2.0, of at most 50 characters.")
    else:
        raise InvalidRequest("Say what to test: `package_id` (an id or a name) or `snapshot_id`.")
    found = await packages.find_runnable_version(
        db, ref, version=request.package_version, snapshot_id=request.snapshot_id, account_id=caller.id
    )
    if found is None:
        what = f"snapshot {request.snapshot_id[:12]}" if request.snapshot_id else f"package {request.package_id}"
        at = f" in version {request.package_version}" if request.package_version else ""
        raise NotFound(f"There is no {what}{at} that you may test.", code="package_not_found")
    return found


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


def _check_upload(caller: Caller, request: RunRequest, version: RunnableVersion) -> None:
    if not (request.upload_results or request.verify_results):
        return
    if version.owner_id != caller.id and not caller.is_admin:
        raise NotAllowed("Only the package's owner may upload or verify results. Leave out -u and -v.")
    if request.verify_results and (not version.is_published or request.suite is not None):
        raise InvalidRequest(
            "Verified results need a published version, tested by the suite in it or stored for it. Leave out -v.",
            code="cannot_verify",
        )


async def _choose_suite(request: RunRequest, version: RunnableVersion) -> _Suite:
    if request.suite is not None:
        try:
            suite = await asyncio.to_thread(parse_suite_value, request.suite, path="suite")
        except EngineError as error:
            raise InvalidRequest(error.message, code="invalid_suite", details=error.details) from None
        return _Suite(
            id=suite_digest(suite),
            body=encode_canonical(suite).decode(),
            source="request",
            trials_a_model=_trials(suite),
        )
    if version.suite_error is not None:
        first, *details = version.suite_error.split("\n")
        raise InvalidRequest(first, code="invalid_suite", details=details)
    if version.suite_body is None:
        raise NoSuite(f"{version.name}@{version.version} has no tests. {SUITE_PLACES}")
    own = version.package_suite_id is not None
    return _Suite(
        id=version.package_suite_id or version.stored_suite_id or "",
        body=None,
        source="package" if own else "stored",
        trials_a_model=_trials(msgspec.json.decode(version.suite_body, type=Suite)),
    )


def _trials(suite: Suite) -> int:
    return sum(case.repeat for case in suite.cases)


def _check_size(caller: Caller, trials: int) -> None:
    tier = TIERS[caller.tier]
    if trials > tier.trials_per_job:
        raise InvalidRequest(
            f"This is {trials} trials (cases × models × repeats); {tier.title} runs at most "
            f"{tier.trials_per_job} a job. Test fewer models or repeats, or split the suite.",
            code="too_many_trials",
        )


def _hash(value: Any) -> str:
    return hashlib.sha256(encode_canonical(value)).hexdigest()
