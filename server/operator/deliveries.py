"""What forges delivered, and what came of it."""

from __future__ import annotations

import click

from server.operator._database import with_database
from server.operator.errors import OperatorError

STATES = ("received", "handled", "ignored", "invalid", "failed")


@click.group("deliveries", invoke_without_command=True)
@click.option("--state", type=click.Choice(STATES), help="Only those.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.pass_context
def command(context: click.Context, state: str | None, limit: int) -> None:
    """List what forges delivered, the newest first, with what came of each."""
    if context.invoked_subcommand is not None:
        return
    from server.store.deliveries import list_deliveries

    found = with_database(lambda db, _: list_deliveries(db, state=state, most=limit))  # type: ignore[arg-type]  # click.Choice has checked it
    for one in found:
        at = f"{one.received_at:%Y-%m-%d %H:%M:%S}"
        tries = f", {one.attempts} attempts, next {one.next_at:%H:%M:%S}" if one.state == "received" else ""
        click.echo(f"{one.id:>8}  {at}  {one.source} {one.event}  {one.state}{tries}  {one.reason or ''}".rstrip())
    if not found:
        click.echo("No deliveries.", err=True)


@command.command("replay")
@click.argument("number", type=int)
def replay(number: int) -> None:
    """Handle delivery NUMBER once more. What it asked for is still done once only."""
    from server.store.deliveries import replay as replay_delivery

    if not with_database(lambda db, _: replay_delivery(db, number)):
        raise OperatorError(f"There is no delivery {number} that has ended.")
    click.echo("It is handled again within a second.")
