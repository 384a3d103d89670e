"""Link repositories and installations of the App to accounts, so that what happens there is tested."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import click

from server.operator._database import with_database
from server.operator.errors import OperatorError

if TYPE_CHECKING:
    from server.services.forge_access import ForgeAccess

Answer = TypeVar("Answer")


@click.group("link")
def command() -> None:
    """Link installations of the App to accounts, and see whose which repository is."""


@command.command("add")
@click.argument("account")
@click.argument("forge")
@click.option("--installation", required=True, type=click.IntRange(1, 2**63 - 1), help="The forge's number of it.")
def add(account: str, forge: str, installation: int) -> None:
    """Link an installation of the App on FORGE to ACCOUNT. You vouch that it is theirs.

    The number ends the address of the installation's own page in the forge's settings.
    """
    from server.services.installations import link_for_account

    async def link(db: asyncpg.Pool, access: ForgeAccess) -> str:
        found = await link_for_account(
            db, access, forge=forge, installation_id=installation, account=account, proof="operator"
        )
        return f"Installation {found.installation_id} of {found.owner or 'an unknown owner'} -> {found.account}"

    click.echo(_with_access(link))


@command.command("list")
def list_() -> None:
    """List installations and repositories, and whose they are."""
    from server.store import links

    async def read(db: asyncpg.Pool) -> list[str]:
        found = [
            f"{one.forge} installation {one.installation_id} of {one.owner} -> {one.account}"
            f"{'  (suspended)' if one.suspended_at else ''}  by {one.proof}"
            for one in await links.list_installations(db, None)
        ]
        for one in await links.list_links(db, None):
            way = f"installation {one.installation_id}" if one.installation_id else ""
            way = way or (f"hook {one.hook_id}" if one.hook_id else "settings")
            found.append(f"{one.forge} {one.name} ({one.repository_id}) -> {one.account}  by {way}")
        return found

    lines = with_database(lambda db, _: read(db))
    for line in lines:
        click.echo(line)
    if not lines:
        click.echo("Nothing is linked. Link an installation: `prpm-testing link add ACCOUNT github ...`.", err=True)


@command.command("remove")
@click.argument("forge")
@click.option("--installation", required=True, type=click.IntRange(1, 2**63 - 1), help="The forge's number of it.")
def remove(forge: str, installation: int) -> None:
    """End an installation's link, and those of its repositories. The App stays installed, and does nothing."""
    from server.services.installations import unlink_installation

    done = with_database(
        lambda db, _: unlink_installation(
            db, forge=forge, installation_id=installation, reason="The service's operator ended the link."
        )
    )
    if not done:
        raise OperatorError("There is no such link. `prpm-testing link list` lists them.")
    click.echo("Removed.")


def _with_access(act: Callable[[asyncpg.Pool, ForgeAccess], Awaitable[Answer]]) -> Answer:
    from server.domain.links import NotLinked
    from server.forges import CannotRead
    from server.reaching import make_forge_access
    from server.settings import Settings

    async def run(db: asyncpg.Pool, settings: Settings) -> Answer:
        access = make_forge_access(db, settings)
        try:
            return await act(db, access)
        except (NotLinked, CannotRead) as error:
            raise OperatorError(str(error)) from None
        finally:
            await access.aclose()

    return with_database(run)
