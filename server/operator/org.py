"""Make organisations, and say who belongs to them."""

from __future__ import annotations

import click

from server.domain.rights import ROLES, SCOPES
from server.domain.tiers import TIERS
from server.operator._database import with_database
from server.operator.account import show_account


@click.group("org")
def command() -> None:
    """Make organisations, and say who belongs to them."""


@command.command("create")
@click.argument("name")
@click.option("--owner", required=True, metavar="USERNAME", help="Its first owner, who has an account.")
@click.option("--tier", type=click.Choice(list(TIERS)), default="free", show_default=True)
def create(name: str, owner: str, tier: str) -> None:
    """Make the organisation NAME."""
    from server.services.organizations import create_organization

    show_account(with_database(lambda db, _: create_organization(db, name, owner=owner, tier=tier)))


@command.command("list")
def list_() -> None:
    """List the organisations."""
    from server.services.organizations import list_all_organizations

    found = with_database(lambda db, _: list_all_organizations(db))
    for one in found:
        click.echo(f"{one.username}  {one.tier}  members: {one.members}  {one.id}")
    if not found:
        click.echo("There are none. Make one: `prpm-testing org create NAME --owner USERNAME`.", err=True)


@command.group("member")
def member() -> None:
    """Add, move, list and remove members."""


@member.command("add")
@click.argument("organization")
@click.argument("username")
@click.option("--role", type=click.Choice(ROLES), default="member", show_default=True)
def add(organization: str, username: str, role: str) -> None:
    """Make USERNAME a member of ORGANIZATION, or give a member another role."""
    from server.services.organizations import set_role

    with_database(lambda db, _: set_role(db, None, organization, username, role))
    click.echo(f"{username} is {role} of {organization}.")


@member.command("remove")
@click.argument("organization")
@click.argument("username")
def remove(organization: str, username: str) -> None:
    """End the membership of USERNAME in ORGANIZATION, at once."""
    from server.services.organizations import remove_member

    with_database(lambda db, _: remove_member(db, None, organization, username))
    click.echo(f"{username} is no member of {organization}.")


@member.command("list")
@click.argument("organization")
def list_members(organization: str) -> None:
    """List the members of ORGANIZATION."""
    from server.services.organizations import list_members as found_by

    for one in with_database(lambda db, _: found_by(db, None, organization)):
        click.echo(f"{one.username}  {one.role}")


@command.command("token")
@click.argument("organization")
@click.option("--name", default="automation", show_default=True, help="What the token is for.")
@click.option("--days", type=click.IntRange(1, 3660), default=None, help="Ends after so many days.")
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), default=("read", "run"), show_default=True)
def token(organization: str, name: str, days: int | None, scopes: tuple[str, ...]) -> None:
    """Make a token of ORGANIZATION for programs and print it, this once."""
    from server.services.organizations import create_token

    seconds = days * 86_400.0 if days else None
    issued = with_database(
        lambda db, _: create_token(db, None, organization, name=name, scopes=scopes, seconds=seconds)
    )
    click.echo(issued.token)
    click.echo(f"Token id: {issued.id} (revoke it with `prpm-testing token revoke {issued.id}`)", err=True)
