"""`prpm notify`: where results of tests are told: Slack, Discord, webhooks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from cli.managing import document, opened

if TYPE_CHECKING:
    from cli.answers import NotifyMessage, NotifyTarget
    from cli.client import RegistryClient

WAIT_SECONDS = 15.0
LOOK_SECONDS = 0.3
org_option = click.option("--org", metavar="NAME", help="Of this organisation")
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")


@click.group("notify", short_help="Be told of tests in Slack, in Discord, or by a webhook")
def command() -> None:
    """Be told of tests that end: in Slack, in Discord, or by a signed webhook."""


@command.command("add")
@click.argument("kind", metavar="slack|discord|webhook")
@click.argument("url")
@click.option("--package", metavar="GLOB", default="*", show_default=True, help="Only these packages: @acme/*")
@click.option(
    "--on",
    type=click.Choice(["changes", "failures", "always"]),
    help="When to tell  [default: changes in chats, always by webhooks]",
)
@org_option
@as_json_option
def add(*, kind: str, url: str, package: str, on: str | None, org: str | None, as_json: bool) -> int:
    """Tell URL of tests that end from now on. `-` reads URL from stdin: it is a secret, and shells remember lines."""
    address = sys.stdin.readline().strip() if url == "-" else url
    asked = {"kind": kind, "url": address, "package": package, **({"on": on} if on else {})}
    with opened(as_json=as_json) as (terminal, client):
        target = client.add_notify_target(asked, account=org)
        if document(terminal, target, as_json=as_json):
            return 0
        terminal.say(f"🔔 {target.address} is told of {_scope(target)}.")
        if target.secret:
            terminal.say(f"   Signing secret, shown this once: {target.secret}")
        terminal.say(f"   Try it with `prpm notify test {target.id}`.")
    return 0


@command.command("list")
@org_option
@as_json_option
def list_(*, org: str | None, as_json: bool) -> int:
    """List my targets, with what became of the last message."""
    with opened(as_json=as_json) as (terminal, client):
        found = client.list_notify_targets(account=org)
        if document(terminal, found, as_json=as_json):
            return 0
        terminal.say("🔔 Told of tests:")
        terminal.say()
        for target in found.targets:
            for line in target_lines(target):
                terminal.say(line)
        if not found.targets:
            terminal.say("   nobody yet: `prpm notify add slack URL` adds a channel")
    return 0


@command.command("test")
@click.argument("target_id", metavar="ID")
@org_option
@as_json_option
def test(*, target_id: str, org: str | None, as_json: bool) -> int:
    """Send a message to the target ID and wait for what becomes of it. Exit code 1 if it does not arrive."""
    from cli.errors import CommandError

    with opened(as_json=as_json) as (terminal, client):
        message_id = client.check_notify_target(target_id, account=org)
        notification = _await_message(client, target_id, message_id, account=org)
        if not document(terminal, notification, as_json=as_json) and notification.state == "sent":
            terminal.say("✅ The message arrived.")
    if notification.state == "sent":
        return 0
    if as_json:
        return 1
    reason = notification.reason or "No worker has sent it yet; `prpm notify list` shows what becomes of it."
    error = CommandError(f"The message has not arrived. {reason}", code="not_delivered")
    error.exit_code = 1
    raise error


@command.command("resume")
@click.argument("target_id", metavar="ID")
@org_option
def resume(*, target_id: str, org: str | None) -> int:
    """Tell the stopped target ID again, of what ends from now on."""
    with opened() as (terminal, client):
        target = client.resume_notify_target(target_id, account=org)
        terminal.say(f"🔔 {target.address} is told again of {_scope(target)}.")
    return 0


@command.command("remove")
@click.argument("target_id", metavar="ID")
@org_option
def remove(*, target_id: str, org: str | None) -> int:
    """Tell the target ID nothing more, and forget its address."""
    with opened() as (terminal, client):
        client.remove_notify_target(target_id, account=org)
        terminal.say("Removed.")
    return 0


def target_lines(target: NotifyTarget) -> list[str]:
    """A target as people read it."""
    lines = [f"   {target.id}  {target.kind}  {target.address}", f"      {_scope(target)}"]
    if target.state == "stopped":
        lines.append(f"      ⛔ stopped: {target.stopped_reason}")
        lines.append(f"      `prpm notify resume {target.id}` starts it again")
    elif (last := target.last_notification) is not None:
        reason = f": {last.reason}" if last.reason else ""
        lines.append(f"      last message: {last.state} {last.at[:16].replace('T', ' ')}{reason}")
    return lines


def _scope(target: NotifyTarget) -> str:
    packages = "all packages" if target.package == "*" else target.package
    return f"{packages}, {target.on}"


def _await_message(
    client: RegistryClient, target_id: str, notification_id: int, *, account: str | None
) -> NotifyMessage:
    """What is known of the notification once it was tried, or after some seconds."""
    import time

    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        found = [
            one
            for one in client.list_notify_messages(target_id, account=account).notifications
            if one.id == notification_id
        ]
        if found and (found[0].state != "pending" or found[0].reason or time.monotonic() > deadline):
            return found[0]
        time.sleep(LOOK_SECONDS)
