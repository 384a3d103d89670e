"""Link repositories to accounts, so that their workflows need no key."""

from __future__ import annotations

import asyncpg
import click

from server.domain.trust import Trust
from server.operator._database import with_database
from server.settings import Settings


@click.group("trust")
def command() -> None:
    """Link repositories to accounts, so that their workflows need no key."""


@command.command("add")
@click.argument("account")
@click.option("--repository", required=True, metavar="OWNER/NAME", help="Its name, for people.")
@click.option("--repository-id", required=True, type=click.IntRange(1, 2**63 - 1), help="The forge's number of it.")
@click.option(
    "--owner-id",
    required=True,
    type=click.IntRange(1, 2**63 - 1),
    help="The forge's number of its owner (at GitLab: of its namespace).",
)
@click.option("--issuer", metavar="URL", help="Whose tokens its workflows show.  [default: GitHub's]")
@click.option("--workflow", metavar="PATH", help="Only this file may, such as .github/workflows/test.yml.")
@click.option("--allow-event", "events", multiple=True, metavar="EVENT", help="pull_request_target or workflow_run.")
@click.option("--publish", is_flag=True, help="Its workflows may also publish packages and upload results.")
def add(account: str, repository: str, *, issuer: str | None, publish: bool, **more: object) -> None:
    """Let workflows of a repository test for ACCOUNT. You vouch that the repository is theirs.

    The numbers do not change with a name. GitHub tells them with: gh api repos/OWNER/NAME --jq '.id, .owner.id'
    """

    async def link(db: asyncpg.Pool, settings: Settings) -> Trust:
        from server.services.keyless import add_trust, new_trust, read_issuers

        new = new_trust(
            read_issuers(settings.oidc_issuers),
            account=account,
            issuer=issuer,
            repository=repository,
            may_publish=publish,
            proof="operator",
            **more,  # type: ignore[arg-type]  # click has checked them
        )
        return await add_trust(db, new)

    show(with_database(link))


@command.command("list")
@click.argument("account", required=False)
def list_(account: str | None) -> None:
    """List the trusted repositories, of ACCOUNT or of all."""
    from server.services.keyless import list_trusts

    found = with_database(lambda db, _: list_trusts(db, None, account))
    for one in found:
        show(one)
    if not found:
        click.echo("There are none.", err=True)


@command.command("remove")
@click.argument("trust_id")
def remove(trust_id: str) -> None:
    """Trust the repository with TRUST_ID no longer, at once."""
    from server.services.keyless import remove_trust

    with_database(lambda db, _: remove_trust(db, None, None, trust_id))
    click.echo("Removed.")


def show(one: Trust) -> None:
    """Print what there is to know."""
    click.echo(f"{one.repository} -> {one.account}  {one.id}")
    click.echo(f"   Issuer: {one.issuer}, repository {one.repository_id} of owner {one.owner_id}")
    if one.workflow:
        click.echo(f"   Only: {one.workflow}")
    if one.events:
        click.echo(f"   Also on: {', '.join(one.events)}")
    click.echo(f"   May: {', '.join(one.scopes)}")
