"""`prpm usage`: what the month holds so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.answers import AccountCaps, UsageReport


@click.command("usage", short_help="Show this month's test runs and what is left")
@click.option("--org", metavar="NAME", help="Those of this organisation")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(*, org: str | None, as_json: bool) -> int:
    """Show this month's test runs and what is left of them."""
    import msgspec

    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    terminal = Terminal(machine=as_json)
    with open_client(load_config(terminal)) as client:
        report = client.get_test_usage(account=org)
    if as_json:
        terminal.document(msgspec.to_builtins(report))
        return 0
    for line in usage_lines(report):
        terminal.say(line)
    return 0


def usage_lines(report: UsageReport) -> list[str]:
    """The report as people read it."""
    from cli.answers import UNLIMITED
    from cli.wording import dollars

    month, limits = report.current_month, report.limits
    unlimited = limits.unlimited or limits.test_runs_per_month >= UNLIMITED
    left = "unlimited" if unlimited else f"{report.remaining.test_runs:,} of {limits.test_runs_per_month:,}"
    return [
        "📊 Usage this month:",
        "",
        f"   Tier: {limits.tier}",
        f"   Test runs: {month.test_runs_count:,}",
        f"   Remaining: {left}",
        f"   Concurrent jobs: {limits.concurrent_jobs}",
        f"   Total Tokens: {month.tokens_used:,}",
        f"   Cost: {dollars(month.cost_usd)}",
        *_cap_lines(report.caps),
    ]


def _cap_lines(caps: AccountCaps | None) -> list[str]:
    """Older servers do not tell their caps."""
    from cli.wording import dollars

    if caps is None:
        return []
    return [
        "",
        "🧢 Caps:",
        "",
        f"   Money a month: {dollars(caps.money_per_month_usd)}, {dollars(caps.money_left_usd)} left",
        f"   Money a job: {dollars(caps.money_per_job_usd)}",
        f"   Trials a job: {caps.trials_per_job:,}",
        f"   Tokens an answer: {caps.output_tokens_per_answer:,}",
        f"   Time a job: {caps.seconds_per_job // 60} min",
    ]
