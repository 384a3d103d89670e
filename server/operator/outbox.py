"""Look at notifications that wait or could not be told, and tell them again."""

from __future__ import annotations

from uuid import UUID

import asyncpg
import click

from notifiers._text import one_line
from server.domain.notifications import OutboxCount, OutboxRow
from server.operator._database import with_database
from server.operator.errors import OperatorError
from server.settings import Settings


@click.group("outbox", invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Look at notifications that wait or could not be told, and tell them again."""
    if context.invoked_subcommand is None:
        context.invoke(show)


@command.command("show")
def show() -> None:
    """How many notifications are in which state, by kind of target."""
    from server.store.outbox import count_outbox

    counts = with_database(lambda db, _: count_outbox(db))
    for count in counts:
        click.echo(count_line(count))
    if not counts:
        click.echo("The outbox is empty.")


@command.command("list")
@click.option("--state", type=click.Choice(["pending", "dead"]), default="dead", show_default=True)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def list_(state: str, limit: int) -> None:
    """The newest notifications that wait (`pending`), or were given up (`dead`), and why."""
    from server.store.outbox import list_outbox

    rows = with_database(lambda db, _: list_outbox(db, state=state, most=limit))
    for row in rows:
        for line in row_lines(row):
            click.echo(line)
    if not rows:
        click.echo(f"None is {state}.")


@command.command("replay")
@click.option("--id", "row_id", type=int, help="One notification.")
@click.option("--target", type=click.UUID, help="All of one target.")
@click.option("--all-dead", is_flag=True, help="All that were given up.")
def replay(row_id: int | None, target: UUID | None, all_dead: bool) -> None:
    """Try given up notifications again, with all tries before them. Those of stopped targets stay."""
    from server.store.outbox import replay_dead

    if sum((row_id is not None, target is not None, all_dead)) != 1:
        raise OperatorError("Say which: --id, --target or --all-dead.")
    count = with_database(lambda db, _: replay_dead(db, row_id=row_id, target_id=target))
    click.echo(f"{count:,} notification{'' if count == 1 else 's'} will be tried again.")


@command.command("reseal")
def reseal() -> None:
    """Seal all addresses, webhooks and Apps with the first key of PRPM_SECRET_KEY; then older keys can be taken out."""

    async def act(db: asyncpg.Pool, settings: Settings) -> tuple[int, int]:
        from server.services.notifying import Notifying
        from server.services.notifying import reseal as seal_anew
        from server.services.resealing import reseal_secrets
        from server.services.sealing import Sealer

        if settings.secret_key is None:
            raise OperatorError("Set PRPM_SECRET_KEY as the service has it: the new key, a comma, the old one.")
        sealer = Sealer(settings.secret_key)
        targets = await seal_anew(Notifying(db=db, sealer=sealer))
        secrets = await reseal_secrets(db, sealer)
        return targets[0] + secrets[0], targets[1] + secrets[1]

    done, lost = with_database(act)
    click.echo(f"{done:,} sealed with the first key.")
    if lost:
        raise OperatorError(f"{lost:,} cannot be opened by any key of PRPM_SECRET_KEY. Add the key that sealed them.")


def count_line(count: OutboxCount) -> str:
    """`slack    pending      3   oldest 2026-01-02 03:04:05, next 03:05:00`."""
    following = f", next try {count.next_at:%Y-%m-%d %H:%M:%S}" if count.next_at else ""
    return f"{count.kind:<10} {count.state:<8} {count.rows:>7,}   oldest {count.oldest:%Y-%m-%d %H:%M:%S}{following}"


def row_lines(row: OutboxRow) -> list[str]:
    """Whose it is, where to, and why it is there. No address, no text."""
    one = row.notification
    about = f"job {one.job_id}" if one.job_id else one.event
    lines = [f"{one.id}  {row.username}  {row.kind}  {one_line(row.shown or '')}  {about}  {one.attempts} tries"]
    if one.last_error:
        lines.append(f"   {one_line(one.last_error)}")
    if one.state == "pending":
        lines.append(f"   next try {one.next_at:%Y-%m-%d %H:%M:%S}")
    return lines
