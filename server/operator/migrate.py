"""Bring the database's schema up to date."""

from __future__ import annotations

import asyncio

import click

from server.operator.errors import OperatorError


@click.command("migrate")
@click.option("--target", type=click.IntRange(min=0), default=None, help="Stop at this migration; 0 undoes all.")
def command(target: int | None) -> None:
    """Bring the schema of PRPM_DATABASE_URL up to date. Safe to run twice and at once."""
    from server.settings import read_settings
    from server.store.migrations import CannotMigrate, migrate

    settings = read_settings()
    dsn = settings.database_direct_url.reveal() if settings.database_direct_url else settings.require_database()
    try:
        done = asyncio.run(migrate(dsn, target=target))
    except CannotMigrate as error:
        raise OperatorError(str(error)) from None
    click.echo("\n".join(done) or "The schema is up to date.")
