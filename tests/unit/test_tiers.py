"""README's table of tiers and the tiers that API and database use are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.domain.tiers import TIERS, next_tier

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
ROWS = {
    cells[0].strip("*"): cells[1:]
    for line in README.splitlines()
    if line.startswith("| **") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 5
}


@pytest.mark.parametrize("tier", [tier for name, tier in TIERS.items() if name != "free"], ids=lambda tier: tier.name)
def test_readme__says_what_the_tier_gives(tier):
    runs, models, concurrent, cost = ROWS[tier.title]

    assert runs == ("Unlimited" if tier.runs_per_month is None else f"{tier.runs_per_month} test runs")
    assert models == "All models"
    assert concurrent == f"{tier.concurrent_jobs} concurrent"
    assert cost == tier.price


def test_readme__free_is_self_hosted():
    assert ROWS["Free"] == ["Self-hosted only", "Any (BYO keys)", "Unlimited", "$0"]
    assert TIERS["free"].runs_per_month == 0


def test_next_tier__of_the_largest_there_is_none():
    assert [tier.name if (tier := next_tier(name)) else None for name in TIERS] == ["plus", "pro", "enterprise", None]


def test_docs__say_what_the_tiers_cap():
    plus, pro, enterprise = TIERS["plus"], TIERS["pro"], TIERS["enterprise"]
    suite_format = (Path(__file__).resolve().parents[2] / "docs" / "suite-format.md").read_text()

    money = ", ".join(f"{t.title} ${t.money_per_job_usd} and ${t.money_per_month_usd}" for t in (plus, pro))
    assert f"({money}, Enterprise by agreement)" in README
    answers = f"prpm+ {plus.answer_tokens:,} tokens, Pro {pro.answer_tokens:,}, Enterprise {enterprise.answer_tokens:,}"
    assert answers in suite_format
    assert f"prpm+ {plus.job_seconds // 60} min, other tiers {pro.job_seconds // 60} min" in suite_format
    assert pro.job_seconds == enterprise.job_seconds
