"""Make and revoke access tokens."""

from __future__ import annotations

import time

import asyncpg
import click

from server.domain.accounts import IssuedToken
from server.domain.errors import InvalidRequest
from server.operator._database import with_database
from server.settings import Settings


@click.group("token")
def command() -> None:
    """Make and revoke access tokens."""


@command.command("create")
@click.argument("username")
@click.option("--name", default="command line", show_default=True, help="What the token is for.")
@click.option("--days", type=click.IntRange(1, 3660), default=None, help="Ends after so many days.")
@click.option("--jwt", "as_jwt", is_flag=True, help="A JWT, which the registry's own `prpm` accepts as well.")
def create(username: str, name: str, days: int | None, as_jwt: bool) -> None:
    """Make a token of the account USERNAME and print it, this once."""

    async def issue(db: asyncpg.Pool, settings: Settings) -> IssuedToken:
        from server.services.identity import issue_token

        if as_jwt and settings.jwt_secret is None:
            raise InvalidRequest("Set PRPM_JWT_SECRET to the secret that the service checks JWTs with.")
        secret = settings.jwt_secret.reveal() if as_jwt and settings.jwt_secret else None
        seconds = days * 86_400.0 if days else None
        return await issue_token(db, username, name=name, seconds=seconds, jwt_secret=secret, now=int(time.time()))

    issued = with_database(issue)
    click.echo(issued.token)
    click.echo(f"Token id: {issued.id} (revoke it with `prpm-testing token revoke {issued.id}`)", err=True)


@command.command("revoke")
@click.argument("which")
def revoke(which: str) -> None:
    """End the token WHICH (its id or the token itself), at once."""
    from server.services.identity import revoke_token

    with_database(lambda db, _: revoke_token(db, which))
    click.echo("Revoked.")
