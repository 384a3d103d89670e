"""Open the set-up page once: the token that makes the service's App on GitHub."""

from __future__ import annotations

import asyncpg
import click

from server.operator._database import with_database
from server.settings import Settings


@click.command("setup-token")
@click.option("--replace", is_flag=True, help="The App that is made takes the place of the one that was made before.")
def command(replace: bool) -> None:
    """Print a token that opens /setup/github once, within an hour."""

    async def issue(db: asyncpg.Pool, settings: Settings) -> tuple[str, str]:
        from server.services.tickets import OPERATOR, OPERATOR_SECONDS, issue_ticket

        token = await issue_ticket(db, OPERATOR, seconds=OPERATOR_SECONDS, facts={"may_replace": replace})
        return token, settings.public_url or _of_stack(settings) or f"http://{settings.host}:{settings.port}"

    token, address = with_database(issue)
    click.echo(token)
    click.echo(f"Paste it at {address}/setup/github within an hour. It works once.", err=True)


def _of_stack(settings: Settings) -> str | None:
    """Where `prpm-testing up` is reached, if it is its database that was asked."""
    if settings.database_url is not None:
        return None
    from server.operator.stack import running_url

    return running_url(settings.data_dir)
