"""See webhooks that accounts have made, and take one away."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import click

from notifiers._text import one_line
from server.operator._database import with_database
from server.operator.errors import OperatorError


@click.group("hook")
def command() -> None:
    """See webhooks that accounts have made, and take one away. People make them: `prpm hook add`."""


@command.command("list")
def list_() -> None:
    """List all webhooks by account, without what opens them."""
    from server.store.hooks import list_hooks

    found = with_database(lambda db, _: list_hooks(db, None))
    for one in found:
        last = f"{one.delivered_at:%Y-%m-%d %H:%M}" if one.delivered_at else "never"
        click.echo(f"{one.id}  {one.account}  {one.forge} {one.name}  by {one.created_by}  last delivery: {last}")
        if one.refused_at is not None:
            click.echo(f"   token refused {one.refused_at:%Y-%m-%d %H:%M}: {one_line(one.refused_reason or '')}")
    if not found:
        click.echo("There are none.", err=True)


@command.command("remove")
@click.argument("hook_id", type=click.UUID)
def remove(hook_id: UUID) -> None:
    """Remove the webhook HOOK_ID, with its secrets and links, at once."""

    async def end(db: asyncpg.Pool) -> bool:
        from server.services.hooks import end_hook
        from server.store.hooks import read_hook

        hook = await read_hook(db, hook_id)
        if hook is not None:
            await end_hook(db, hook, reason="The service's operator removed the webhook of this repository.")
        return hook is not None

    if not with_database(lambda db, _: end(db)):
        raise OperatorError("There is no such webhook. `prpm-testing hook list` lists them.")
    click.echo("Removed.")
