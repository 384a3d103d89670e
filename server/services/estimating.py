"""What a job would take, told before it is submitted: nothing is kept, charged or asked of a model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Literal
from uuid import UUID

import asyncpg
import msgspec
from msgspec import UNSET, Struct

from evals.archives import read_archive
from evals.catalogue import FREE, ModelInfo, bundled_embedder_prices
from evals.choosing import AUTO
from evals.errors import EngineError
from evals.estimates import RunEstimate, estimate_run
from evals.packages import read_package
from evals.types import Instructions, Price, Suite
from server.domain.accounts import Credential, Usage
from server.domain.errors import NoSuite
from server.domain.jobs import NewJob, Refused
from server.domain.models import AnnouncedModel
from server.domain.tiers import TIERS
from server.services.missing_suites import TO_BE_WRITTEN
from server.services.on_behalf import read_billed
from server.services.publishing import trials_a_model
from server.services.selecting import with_cases
from server.services.submitting import RunRequest, free_tier, new_job, no_such_package, refusal, with_suite_instead
from server.services.upstream_registry import UpstreamRegistry
from server.services.usage import read_usage
from server.store import subjects

Fits = Literal["yes", "maybe", "no"]


class Estimate(Struct, frozen=True, kw_only=True):
    """A run beforehand. `obstacles` are sentences: why it does not fit, or may not."""

    package_id: UUID
    package_name: str
    package_version: str
    suite_source: str
    cases: int
    trials: int
    run: RunEstimate
    usage: Usage
    job_cap_usd: float
    fits: Fits
    obstacles: tuple[str, ...]


class _Finding(Struct, frozen=True):
    fits: Fits
    sentence: str


async def estimate(
    db: asyncpg.Pool,
    credential: Credential,
    request: RunRequest,
    *,
    models: tuple[AnnouncedModel, ...],
    registry: UpstreamRegistry | None = None,
) -> Estimate:
    """What the request would take and whether the account's caps and quota allow it.

    Raises what a submit raises for a request that cannot be served at all; caps and quota are told, not raised.
    """
    caller = await read_billed(db, credential, request.account)
    if TIERS[caller.tier].runs_per_month == 0:
        raise free_tier()
    new = await new_job(request, credential, key=None, models=models, cache_days=0)
    new = await with_cases(db, new, request.cases or ())
    subject = await subjects.read_subject(
        db, caller.id, new.package, version=new.package_version, snapshot_id=new.snapshot_id
    )
    if subject is None:
        raise no_such_package(new)
    if new.suite is None and subject.suite_body is None and subject.suite_error is None:
        new = await with_suite_instead(db, new, request, registry=registry) or new
    if new.suite == TO_BE_WRITTEN:
        raise NoSuite("The package's cases are not written yet, so nobody can tell what they take. Run it once.")
    suite = _suite(subject, new, tier=caller.tier)
    usage = await read_usage(db, caller)
    run = await asyncio.to_thread(_run, subject, suite, new, models, answer_tokens=TIERS[usage.tier].answer_tokens)
    cap = min(usage.money_per_job_usd, new.max_cost_usd if new.max_cost_usd is not None else usage.money_per_job_usd)
    trials = trials_a_model(suite) * len(new.models)
    findings = list(_findings(run, usage, cap=cap, trials=trials))
    return Estimate(
        package_id=subject.package_id,
        package_name=subject.name,
        package_version=subject.version,
        suite_source=new.suite.source if new.suite else subject.suite_source,
        cases=len(suite.cases),
        trials=trials,
        run=run,
        usage=usage,
        job_cap_usd=cap,
        fits="no" if any(finding.fits == "no" for finding in findings) else "maybe" if findings else "yes",
        obstacles=tuple(finding.sentence for finding in findings),
    )


def _suite(subject: subjects.Subject, new: NewJob, *, tier: str) -> Suite:
    """The suite that would run. Raises NoSuite, or InvalidRequest for one that cannot be used."""
    if new.suite is not None:
        return msgspec.json.decode(new.suite.body, type=Suite)
    reason = "invalid_suite" if subject.suite_error else "no_suite" if subject.suite_body is None else None
    if reason is not None or subject.suite_body is None:
        refused = Refused(
            reason=reason or "no_suite",
            tier=tier,
            package=f"{subject.name}@{subject.version}",
            suite_error=subject.suite_error,
            trials=None,
        )
        raise refusal(refused, new)
    return msgspec.json.decode(subject.suite_body, type=Suite)


def _run(
    subject: subjects.Subject, suite: Suite, new: NewJob, models: tuple[AnnouncedModel, ...], *, answer_tokens: int
) -> RunEstimate:
    default = next((model.name for model in models if model.default), new.models[0])
    return estimate_run(
        _instructions(subject, new),
        suite,
        new.models,
        # Workers announce no embedding models; what these cost is the same everywhere, and next to nothing.
        prices={**bundled_embedder_prices(), **_prices(models)},
        default_judge=default,
        answer_tokens=answer_tokens,
    )


def _instructions(subject: subjects.Subject, new: NewJob) -> Instructions:
    try:
        files = read_archive(subject.archive)
        return read_package(
            files, name=subject.name, version=subject.version, format=subject.format, subtype=subject.subtype
        ).instructions
    except EngineError:
        # It could be read when it came in, so the clean-up has taken it since.
        raise no_such_package(new) from None


def _prices(models: tuple[AnnouncedModel, ...]) -> dict[str, Price]:
    """By name; `auto` may choose the dearest."""
    prices = {model.name: price for model in models if (price := _price(model)) is not None}
    reachable = [prices[model.name] for model in models if model.reachable and model.name in prices]
    return {**prices, AUTO: max(reachable, key=lambda price: price.input + price.output)} if reachable else prices


def _price(model: ModelInfo) -> Price | None:
    if model.free is True:
        return FREE
    return None if model.price is UNSET else model.price


def _findings(run: RunEstimate, usage: Usage, *, cap: float, trials: int) -> Iterator[_Finding]:
    tier = TIERS[usage.tier]
    if usage.runs_per_month is not None and usage.test_runs_count >= usage.runs_per_month:
        yield _Finding(
            "no", f"All {usage.runs_per_month} test runs of this month are used; new ones start on {usage.resets_on}."
        )
    if trials > tier.trials_per_job:
        yield _Finding("no", f"{trials:,} trials are more than the {tier.trials_per_job:,} that a job may have.")
    cost = run.cost_usd
    if cost is None:
        names = [part.model for part in (*run.tested, *run.judges) if part.cost_usd is None]
        yield _Finding("maybe", f"No price is known for {', '.join(names)}, which is therefore not asked.")
        return
    for allowed, whose in ((cap, "that the job may cost"), (usage.money_left_usd, "that are left of this month")):
        if cost.low > allowed:
            yield _Finding("no", f"At least {_usd(cost.low)} is more than the {_usd(allowed)} {whose}.")
        elif cost.high > allowed:
            rest = "beyond it tests are skipped"
            yield _Finding("maybe", f"Up to {_usd(cost.high)} is more than the {_usd(allowed)} {whose}; {rest}.")


def _usd(amount: float) -> str:
    return f"${amount:,.4f}" if amount < 1 else f"${amount:,.2f}"
