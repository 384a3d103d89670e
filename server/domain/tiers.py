"""The tiers: the one place that says what an account may do. API, database, pages and README's table read it."""

from __future__ import annotations

from decimal import Decimal

from msgspec import Struct


class Tier(Struct, frozen=True, kw_only=True):
    """`runs_per_month` None means unlimited; 0 means no hosted testing at all.

    Money is what calls of models may cost. An administrator may give an account caps of its own, which for
    enterprise is the rule: its figures here hold until that is done.
    """

    name: str
    title: str
    runs_per_month: int | None
    concurrent_jobs: int
    start_bonus_seconds: int  # how much earlier than its submit a job counts in the queue
    price: str
    trials_per_job: int
    answer_tokens: int  # output tokens of one answer, at most
    job_seconds: int  # from its first start on
    money_per_job_usd: Decimal
    money_per_month_usd: Decimal


TIERS = {
    tier.name: tier
    for tier in (
        Tier(
            name="free", title="Free", runs_per_month=0, concurrent_jobs=0, start_bonus_seconds=0,
            price="$0", trials_per_job=0, answer_tokens=1_024, job_seconds=1_800,
            money_per_job_usd=Decimal(0), money_per_month_usd=Decimal(0),
        ),
        Tier(
            name="plus", title="prpm+", runs_per_month=100, concurrent_jobs=2, start_bonus_seconds=0,
            price="$9/mo", trials_per_job=500, answer_tokens=4_096, job_seconds=1_800,
            money_per_job_usd=Decimal("0.25"), money_per_month_usd=Decimal(5),
        ),
        Tier(
            name="pro", title="prpm Pro", runs_per_month=500, concurrent_jobs=5, start_bonus_seconds=120,
            price="$29/mo", trials_per_job=2_000, answer_tokens=8_192, job_seconds=3_600,
            money_per_job_usd=Decimal(1), money_per_month_usd=Decimal(20),
        ),
        Tier(
            name="enterprise", title="Enterprise", runs_per_month=None, concurrent_jobs=20,
            start_bonus_seconds=600, price="Custom", trials_per_job=20_000, answer_tokens=32_768, job_seconds=3_600,
            money_per_job_usd=Decimal(1), money_per_month_usd=Decimal(20),
        ),
    )
}  # fmt: skip

# In the contract a number is always a number: this one goes with `unlimited: true`.
UNLIMITED_RUNS = 1_000_000_000


def next_tier(name: str) -> Tier | None:
    """The next larger tier, None for the largest."""
    names = list(TIERS)
    position = names.index(name) + 1
    return TIERS[names[position]] if position < len(names) else None
