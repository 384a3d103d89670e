"""How an estimate goes out: the answer of a run request with `dry_run`."""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from evals.estimates import ModelEstimate, Range
from server.domain.tiers import TIERS, UNLIMITED_RUNS
from server.services.estimating import Estimate


class Tokens(Struct, kw_only=True):
    """Tokens or calls, from the least that is likely to the most that is reserved."""

    low: Annotated[int, Meta(examples=[420])]
    high: Annotated[int, Meta(examples=[7800])]


class Money(Struct, kw_only=True):
    """USD, from the least that is likely to the most that is reserved."""

    low: Annotated[float, Meta(examples=[0.0034])]
    high: Annotated[float, Meta(examples=[0.0924])]


class ModelShare(Struct, kw_only=True):
    """What one model takes. No `cost_usd`: its price is not known."""

    model: Annotated[str, Meta(examples=["claude-sonnet-4"])]
    calls: Tokens
    tokens: Tokens
    cost_usd: Money | UnsetType = UNSET


class EstimateCaps(Struct, kw_only=True):
    """What the estimate was held against."""

    tests_remaining: Annotated[int, Meta(examples=[77])]
    trials_per_job: Annotated[int, Meta(examples=[500])]
    money_per_job_usd: Annotated[float, Meta(examples=[0.25], description="With the request's max_cost_usd.")]
    money_left_usd: Annotated[float, Meta(examples=[4.5488], description="Of this month.")]


class EstimatePackage(Struct, kw_only=True):
    id: str
    name: Annotated[str, Meta(examples=["@author/package"])]
    version: Annotated[str, Meta(examples=["1.2.0"])]


class EstimateAnswer(Struct, kw_only=True):
    """What the run would take. Nothing was kept or charged, and no model was asked."""

    dry_run: bool
    package: EstimatePackage
    suite_source: Annotated[
        str, Meta(examples=["package"], description="request, package, stored, registry or generated")
    ]
    cases: Annotated[int, Meta(examples=[6])]
    trials: Annotated[int, Meta(examples=[6], description="Cases × models × repeats.")]
    models: list[ModelShare]
    judges: list[ModelShare]
    tokens: Tokens
    caps: EstimateCaps
    fits: Annotated[str, Meta(examples=["yes"], description="yes, no, or maybe: it depends on how long answers are.")]
    obstacles: Annotated[list[str], Meta(description="Why it does not fit, or may not.")]
    cost_usd: Money | UnsetType = UNSET


def estimate_answer(found: Estimate) -> EstimateAnswer:
    """The public form of an estimate."""
    usage = found.usage
    limit = UNLIMITED_RUNS if usage.runs_per_month is None else usage.runs_per_month
    return EstimateAnswer(
        dry_run=True,
        package=EstimatePackage(id=str(found.package_id), name=found.package_name, version=found.package_version),
        suite_source=found.suite_source,
        cases=found.cases,
        trials=found.trials,
        models=[_share(part) for part in found.run.tested],
        judges=[_share(part) for part in found.run.judges],
        tokens=_tokens(found.run.tokens),
        cost_usd=_money(found.run.cost_usd),
        caps=EstimateCaps(
            tests_remaining=max(limit - usage.test_runs_count, 0),
            trials_per_job=TIERS[usage.tier].trials_per_job,
            money_per_job_usd=found.job_cap_usd,
            money_left_usd=usage.money_left_usd,
        ),
        fits=found.fits,
        obstacles=list(found.obstacles),
    )


def _share(part: ModelEstimate) -> ModelShare:
    return ModelShare(
        model=part.model, calls=_tokens(part.calls), tokens=_tokens(part.tokens), cost_usd=_money(part.cost_usd)
    )


def _tokens(found: Range) -> Tokens:
    return Tokens(low=round(found.low), high=round(found.high))


def _money(found: Range | None) -> Money | UnsetType:
    return UNSET if found is None else Money(low=round(found.low, 6), high=round(found.high, 6))
