"""`/api/v1/user` and `/api/v1/users/me`: who the caller is and what they have used."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from msgspec import UNSET, Meta, Struct, UnsetType

from server.api.context import AccountName, Site, allows
from server.api.errors import refusals
from server.domain.accounts import Caller, Usage
from server.domain.tiers import TIERS, UNLIMITED_RUNS
from server.services import organizations
from server.services.on_behalf import acting_for
from server.services.usage import read_usage

TAGS = ["Users"]


class UserOrganization(Struct, kw_only=True):
    id: str
    name: Annotated[str, Meta(examples=["acme"])]
    role: Annotated[str, Meta(examples=["member"])]


class UserAnswer(Struct, kw_only=True):
    id: str
    username: Annotated[str, Meta(examples=["alice"])]
    tier: Annotated[str, Meta(examples=["plus"])]
    kind: str
    is_admin: bool
    email: str | UnsetType = UNSET
    organizations: (
        Annotated[list[UserOrganization], Meta(description="That the caller is a member of.")] | UnsetType
    ) = UNSET


class CurrentMonth(Struct, kw_only=True):
    test_runs_count: Annotated[int, Meta(examples=[23])]
    tokens_used: Annotated[int, Meta(examples=[48210])]
    cost_usd: Annotated[float, Meta(examples=[0.4312])]


class Limits(Struct, kw_only=True):
    tier: Annotated[str, Meta(examples=["plus"])]
    test_runs_per_month: Annotated[int, Meta(examples=[100])]
    concurrent_jobs: Annotated[int, Meta(examples=[2])]
    unlimited: bool | UnsetType = UNSET


class Remaining(Struct, kw_only=True):
    test_runs: Annotated[int, Meta(examples=[77])]


class Caps(Struct, kw_only=True):
    """What one job may be, and what models may cost in USD."""

    trials_per_job: Annotated[int, Meta(examples=[500], description="Cases × models × repeats.")]
    output_tokens_per_answer: Annotated[int, Meta(examples=[4096])]
    seconds_per_job: Annotated[int, Meta(examples=[1800])]
    money_per_job_usd: Annotated[float, Meta(examples=[0.25])]
    money_per_month_usd: Annotated[float, Meta(examples=[5.0])]
    money_held_usd: Annotated[float, Meta(examples=[0.02], description="By running jobs, for calls to come.")]
    money_left_usd: Annotated[float, Meta(examples=[4.5488])]


class UsageAnswer(Struct, kw_only=True):
    """The month so far, in UTC."""

    current_month: CurrentMonth
    limits: Limits
    remaining: Remaining
    caps: Caps
    resets_at: Annotated[str, Meta(examples=["2026-02-01T00:00:00Z"])]


@get(["/api/v1/user", "/api/v1/auth/me"], opt=allows("follow"), tags=TAGS, summary="Who am I?", responses=refusals(401))
async def get_user(site: Site, caller: Caller) -> UserAnswer:
    """The account behind the token."""
    found = await organizations.list_organizations(site.db, caller.asker_id)
    return UserAnswer(
        id=str(caller.id),
        username=caller.username,
        tier=caller.tier,
        kind=caller.kind,
        is_admin=caller.is_admin,
        email=caller.email or UNSET,
        organizations=[UserOrganization(id=str(one.id), name=one.username, role=one.role) for one in found] or UNSET,
    )


@get(
    "/api/v1/users/me/test-usage",
    opt=allows("see"),
    tags=TAGS,
    summary="What have I used this month?",
    responses=refusals(401, 403, 404),
)
async def get_test_usage(site: Site, caller: Caller, account: AccountName = None) -> UsageAnswer:
    """Runs, tokens and money of the current month, and what is left."""
    usage = await read_usage(site.db, await acting_for(site.db, caller, account, "see"))
    limit = UNLIMITED_RUNS if usage.runs_per_month is None else usage.runs_per_month
    return UsageAnswer(
        current_month=CurrentMonth(
            test_runs_count=usage.test_runs_count, tokens_used=usage.tokens_used, cost_usd=usage.cost_usd
        ),
        limits=Limits(
            tier=usage.tier,
            test_runs_per_month=limit,
            concurrent_jobs=usage.concurrent_jobs,
            unlimited=True if usage.runs_per_month is None else UNSET,
        ),
        remaining=Remaining(test_runs=max(limit - usage.test_runs_count, 0)),
        caps=_caps(usage),
        resets_at=f"{usage.resets_on}T00:00:00Z",
    )


def _caps(usage: Usage) -> Caps:
    tier = TIERS[usage.tier]
    return Caps(
        trials_per_job=tier.trials_per_job,
        output_tokens_per_answer=tier.answer_tokens,
        seconds_per_job=tier.job_seconds,
        money_per_job_usd=usage.money_per_job_usd,
        money_per_month_usd=usage.money_per_month_usd,
        money_held_usd=usage.held_usd,
        money_left_usd=usage.money_left_usd,
    )


handlers = [get_user, get_test_usage]
