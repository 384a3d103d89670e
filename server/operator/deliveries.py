"""What forges delivered, and what came of it."""

from __future__ import annotations

import sys

import asyncpg
import click

from notifiers._text import one_line
from server.domain.deliveries import ListedDelivery
from server.domain.missed import Missed
from server.operator._database import with_database
from server.operator.errors import OperatorError
from server.settings import Settings

STATES = ("received", "handled", "ignored", "invalid", "failed")


@click.group("deliveries", invoke_without_command=True)
@click.option("--state", type=click.Choice(STATES), help="Only those.")
@click.option("--failed", is_flag=True, help="Only those that were given up: they wait for you.")
@click.option("--source", help="Only of this forge, such as github.")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@click.pass_context
def command(context: click.Context, state: str | None, *, failed: bool, source: str | None, limit: int) -> None:
    """List what forges delivered, the newest first, with what came of each."""
    if context.invoked_subcommand is not None:
        return
    from server.store.deliveries import list_deliveries

    if failed and state not in (None, "failed"):
        raise OperatorError("--failed and --state name two different states; give one of them.")
    wanted = "failed" if failed else state
    found = with_database(
        lambda db, _: list_deliveries(db, state=wanted, source=source, most=limit)  # type: ignore[arg-type]  # click.Choice has checked it
    )
    for one in found:
        click.echo(delivery_line(one))
    if not found:
        click.echo("No deliveries.", err=True)


@command.command("show")
@click.argument("number", type=int)
@click.option("--body", is_flag=True, help="Print what came, as it came: it may hold what is private.")
def show(number: int, *, body: bool) -> None:
    """All that is known of delivery NUMBER."""
    from server.store.deliveries import read_body, read_delivery

    found = with_database(lambda db, _: read_delivery(db, number))
    if found is None:
        raise OperatorError(f"There is no delivery {number}.")
    content = with_database(lambda db, _: read_body(db, number)) or b""
    if body:
        sys.stdout.buffer.write(content)
        return
    for line in delivery_lines(found, about=what_of(found, content)):
        click.echo(line)


@command.command("replay")
@click.argument("numbers", type=int, nargs=-1, metavar="NUMBER...")
@click.option("--all-failed", is_flag=True, help="All that were given up.")
@click.option("--source", help="With --all-failed: only of this forge.")
def replay(numbers: tuple[int, ...], *, all_failed: bool, source: str | None) -> None:
    """Handle deliveries once more. What they asked for is still done once only."""
    from server.store.deliveries import replay as replay_delivery
    from server.store.deliveries import replay_failed

    if bool(numbers) == all_failed:
        raise OperatorError("Say which: their numbers, or --all-failed.")
    if all_failed:
        count = with_database(lambda db, _: replay_failed(db, source=source))
        click.echo(f"{count:,} {'delivery is' if count == 1 else 'deliveries are'} handled again within a second.")
        return

    async def replay_each(db: asyncpg.Pool, _: Settings) -> list[int]:
        return [number for number in numbers if not await replay_delivery(db, number)]

    missing = with_database(replay_each)
    if len(missing) < len(numbers):
        click.echo(f"{'It is' if len(numbers) - len(missing) == 1 else 'They are'} handled again within a second.")
    if missing:
        raise OperatorError(f"There is no delivery {', '.join(map(str, missing))} that has ended.")


@command.command("missed")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
def missed(limit: int) -> None:
    """List what a forge sent in the last three days and is not here; it is asked for again by itself."""
    from server.store.missed import list_missed

    found = with_database(lambda db, _: list_missed(db, most=limit))
    for one in found:
        click.echo(missed_line(one))
    if not found:
        click.echo("Nothing is missed.", err=True)


def delivery_line(one: ListedDelivery) -> str:
    """`      17  2026-01-02 03:04:05  github push  received, 2 attempts, next 03:05:00  GitHub does not answer.`."""
    tries = f", {one.attempts} attempts, next {one.next_at:%H:%M:%S}" if one.state == "received" else ""
    at = f"{one.received_at:%Y-%m-%d %H:%M:%S}"
    # A reason may quote a repository's names, and a terminal does what some characters say.
    return f"{one.id:>8}  {at}  {one.source} {one.event}  {one.state}{tries}  {one_line(one.reason or '')}".rstrip()


def what_of(one: ListedDelivery, body: bytes) -> str:
    """`acme/prompts #12, comment by ann`: where to look. Nothing where the body is gone, or does not say."""
    from server.domain.events import Event
    from server.webhooks import SOURCES, InvalidDelivery

    try:
        meaning = SOURCES[one.source].read(one.event, body) if body and one.source in SOURCES else None
    except InvalidDelivery:
        return ""
    if not isinstance(meaning, Event):
        return ""
    number, author = getattr(meaning, "number", None), getattr(meaning, "author", "")
    return f"{meaning.repository.name}{f' #{number}' if number else ''}{f', by {author}' if author else ''}"


def delivery_lines(one: ListedDelivery, *, about: str = "") -> list[str]:
    """A line for each thing that is known."""
    known = {
        "delivery": f"{one.id}",
        "source": one.source,
        "hook": str(one.hook_id) if one.hook_id is not None else "the service's own address",
        "the forge's id": one.delivery_id,
        "event": one.event,
        "about": one_line(about),
        "bytes": f"{one.bytes:,}",
        "received": f"{one.received_at:%Y-%m-%d %H:%M:%S}",
        "state": one.state,
        "reason": one_line(one.reason or ""),
        "attempts": f"{one.attempts}",
        "next attempt": f"{one.next_at:%Y-%m-%d %H:%M:%S}" if one.state == "received" else "",
    }
    return [f"{name:<16}{value}" for name, value in known.items() if value]


def missed_line(one: Missed) -> str:
    """`2026-01-02 03:04:05  github push 0b98...  timed out  asked for once, again at 03:14:05`."""
    from server.services.missing import PAUSES_SECONDS

    asked = {0: "not asked for yet", 1: "asked for once"}.get(one.asked, f"asked for {one.asked} times")
    further = f"again at {one.next_at:%Y-%m-%d %H:%M:%S}" if one.asked < len(PAUSES_SECONDS) else "given up"
    sent = f"{one.sent_at:%Y-%m-%d %H:%M:%S}  {one.source} {one_line(f'{one.event} {one.delivery_id}')}"
    return f"{sent}  {one.trouble}  {asked}, {further}"
