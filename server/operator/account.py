"""Make, show and move accounts."""

from __future__ import annotations

from decimal import Decimal

import click

from server.domain.accounts import Account
from server.domain.tiers import TIERS
from server.operator._database import with_database

tier_option = click.Choice(list(TIERS))


@click.group("account")
def command() -> None:
    """Make, show and move accounts."""


@command.command("create")
@click.argument("username")
@click.option("--tier", type=tier_option, default="free", show_default=True)
@click.option("--email", default=None)
@click.option("--admin", is_flag=True, help="May use the administration API.")
@click.option("--organization", is_flag=True, help="An organisation instead of a person.")
def create(username: str, tier: str, email: str | None, admin: bool, organization: bool) -> None:
    """Make the account USERNAME."""
    from server.services.accounts import create_account

    kind = "organization" if organization else "user"
    show_account(
        with_database(lambda db, _: create_account(db, username, tier=tier, email=email, kind=kind, is_admin=admin))
    )


@command.command("show")
@click.argument("username")
def show(username: str) -> None:
    """Show the account USERNAME."""
    from server.services.accounts import read_account

    show_account(with_database(lambda db, _: read_account(db, username)))


@command.command("set-tier")
@click.argument("username")
@click.argument("tier", type=tier_option)
def set_tier(username: str, tier: str) -> None:
    """Move the account USERNAME to TIER; what runs or waits goes on."""
    from server.services.accounts import set_tier as move

    show_account(with_database(lambda db, _: move(db, username, tier)))


@command.command("set-cap")
@click.argument("username")
@click.option("--per-job", type=float, metavar="USD", help="What a job's models may cost  [default: the tier's]")
@click.option("--per-month", type=float, metavar="USD", help="What a month's jobs may cost  [default: the tier's]")
def set_cap(username: str, per_job: float | None, per_month: float | None) -> None:
    """Give the account USERNAME money caps of its own; without options those of its tier hold again."""
    from server.services.accounts import set_caps

    show_account(with_database(lambda db, _: set_caps(db, username, per_job_usd=per_job, per_month_usd=per_month)))


def show_account(account: Account) -> None:
    """Print what there is to know."""
    tier = TIERS[account.tier]
    runs = "unlimited" if tier.runs_per_month is None else tier.runs_per_month
    click.echo(f"{account.username}  {account.kind}  {account.id}")
    click.echo(f"   Tier: {tier.name} ({runs} test runs a month, {tier.concurrent_jobs} at once)")
    per_job, own_per_job = _cap(account.money_per_job_usd, tier.money_per_job_usd)
    per_month, own_per_month = _cap(account.money_per_month_usd, tier.money_per_month_usd)
    click.echo(f"   Money: ${per_job:,.2f} a job{own_per_job}, ${per_month:,.2f} a month{own_per_month}")
    if account.is_admin:
        click.echo("   Administrator")
    if not account.is_active:
        click.echo("   Not active")


def _cap(own: Decimal | None, tiers: Decimal) -> tuple[Decimal, str]:
    """The cap that holds, and whether it is the account's own."""
    return (tiers, "") if own is None else (own, " (its own)")
