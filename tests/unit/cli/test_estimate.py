"""`prpm test --estimate` and `--max-cost`: what is sent, what is shown, how it ends; and caps in what is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cli.answers import RowShown, Summary
from cli.wording import result_lines, summary_lines
from tests.standins.service import PACKAGE_ID, Reply, Service, a_row, a_summary
from tests.unit.cli.conftest import User

SUBMIT = "POST /api/v1/test-jobs/run"
USAGE = "GET /api/v1/users/me/test-usage"


def an_estimate(**changes: Any) -> dict[str, Any]:
    """A service's answer."""
    share = {
        "model": "claude-sonnet-4",
        "calls": {"low": 6, "high": 6},
        "tokens": {"low": 420, "high": 7_800},
        "cost_usd": {"low": 0.0034, "high": 0.0924},
    }
    return {
        "dry_run": True,
        "package": {"id": PACKAGE_ID, "name": "@alice/review", "version": "1.0.2"},
        "suite_source": "package",
        "cases": 6,
        "trials": 6,
        "models": [share],
        "judges": [],
        "tokens": {"low": 420, "high": 7_800},
        "cost_usd": {"low": 0.0034, "high": 0.0924},
        "caps": {"tests_remaining": 77, "trials_per_job": 500, "money_per_job_usd": 0.25, "money_left_usd": 4.5},
        "fits": "yes",
        "obstacles": [],
    } | changes


def test_estimate__reads_as_promised_and_runs_nothing(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply(an_estimate()))

    ran = alice.runs("test", "@alice/review", "--estimate")

    assert (
        ran.out
        == """\
🧮 Estimate for @alice/review@1.0.2 (nothing was run or charged)

   Tests: 6 cases, 6 trials
   claude-sonnet-4: 6 calls, 420 to 7,800 tokens, $0.0034 to $0.0924
   Total Tokens: 420 to 7,800
   Cost: $0.0034 to $0.0924

   Caps: $0.2500 and 500 trials a job; $4.50 are left of this month
✅ It fits.
"""
    )
    assert ran.code == 0
    sent = [seen for seen in service.seen if seen.path == "/api/v1/test-jobs/run"]
    assert len(sent) == 1
    assert sent[0].json()["dry_run"] is True


def test_estimate__that_does_not_fit_says_why_and_ends_with_2(alice: User, service: Service) -> None:
    judge = {
        "model": "gpt-4o", "calls": {"low": 1, "high": 2}, "tokens": {"low": 9, "high": 9},
    }  # fmt: skip
    told = an_estimate(fits="no", obstacles=["At least $0.30 is too much."], judges=[judge], cases=1, trials=1)
    del told["cost_usd"]
    service.set(SUBMIT, Reply(told))

    ran = alice.runs("test", "@alice/review", "--estimate")

    assert ran.code == 2
    assert "❌ It does not fit.\n   At least $0.30 is too much.\n" in ran.out
    assert "   Tests: 1 case, 1 trial\n" in ran.out
    assert "   gpt-4o as judge: 1 to 2 calls, 9 tokens, unknown (a price is not known)\n" in ran.out


def test_estimate__as_json_is_the_services_answer(alice: User, service: Service) -> None:
    service.set(SUBMIT, Reply(an_estimate(fits="maybe")))

    ran = alice.runs("test", "@alice/review", "--estimate", "--json")

    assert ran.code == 0
    assert json.loads(ran.out)["cost_usd"] == {"low": 0.0034, "high": 0.0924}


def test_max_cost__is_sent(alice: User, service: Service) -> None:
    alice.runs("test", "@alice/review", "--max-cost", "0.05")

    (sent,) = [seen for seen in service.seen if seen.path == "/api/v1/test-jobs/run"]
    assert sent.json()["max_cost_usd"] == 0.05
    assert "dry_run" not in sent.json()


@pytest.mark.parametrize("amount", ["0", "-1", "nan", "a lot"])
def test_max_cost__I1_must_be_an_amount(alice: User, service: Service, amount: str) -> None:
    ran = alice.runs("test", "@alice/review", "--max-cost", amount)

    assert ran.code == 2
    assert "--max-cost" in ran.err
    assert not service.seen


@pytest.mark.parametrize("options", [("--estimate",), ("--max-cost", "1")])
def test_local__knows_no_prices(user: User, options: tuple[str, ...]) -> None:
    ran = user.runs("test", ".", "--local", *options)

    assert ran.code == 2
    assert "price" in ran.err


def test_summary__says_what_was_cut_short() -> None:
    skipped = a_row("late", state="skipped", passed=False, score=0.0, error={"kind": "cap", "message": "No money."})
    summary = a_summary([a_row("early"), skipped], stopped_by="money_cap", notes=["No money."])
    rows = [RowShown(title="late", passed=False, score=0, state="skipped")]

    lines = [line.text for line in summary_lines(Summary(**summary | {"notes": ("No money.",)}))]

    assert lines[-1] == "⚠️ No money."
    assert "   Skipped: 1 ⏭️" in lines
    assert [line.text for line in result_lines(rows, verbose=False)] == ["⏭️ late", "   Not run"]


def test_usage__shows_the_caps(alice: User, service: Service) -> None:
    service.set(
        USAGE,
        Reply(
            {
                "current_month": {"test_runs_count": 23, "tokens_used": 48_210, "cost_usd": 0.4312},
                "limits": {"tier": "plus", "test_runs_per_month": 100, "concurrent_jobs": 2},
                "remaining": {"test_runs": 77},
                "caps": {
                    "trials_per_job": 500,
                    "output_tokens_per_answer": 4096,
                    "seconds_per_job": 1800,
                    "money_per_job_usd": 0.25,
                    "money_per_month_usd": 5.0,
                    "money_held_usd": 0.0,
                    "money_left_usd": 4.5688,
                },
            }
        ),
    )

    ran = alice.runs("usage")

    assert ran.out.endswith("""
🧢 Caps:

   Money a month: $5.00, $4.57 left
   Money a job: $0.2500
   Trials a job: 500
   Tokens an answer: 4,096
   Time a job: 30 min
""")
