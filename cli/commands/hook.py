"""`prpm hook`: webhooks of repositories, so that their pull requests are tested without a workflow."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from cli.managing import document, opened

if TYPE_CHECKING:
    from cli.answers import Hook
    from cli.terminal import Terminal

org_option = click.option("--org", metavar="NAME", help="Of this organisation")
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")

# A webhook that nothing came from for so long may be dead: GitLab pauses those whose deliveries failed.
QUIET_DAYS = 14

# What is asked for at the keyboard, where the forge is one that is known here.
TOKENS = {
    "github": "A fine-grained token for this repository alone, of somebody who administers it, with contents and "
    "metadata: read, pull requests and commit statuses: write.\nhttps://github.com/settings/personal-access-tokens/new",
    "gitlab": "An access token of the project or group (its Settings, Access tokens): role Maintainer, scope api.",
}


@click.group("hook", short_help="Test a repository's changes by a webhook")
def command() -> None:
    """Have pull and merge requests of a repository tested by a webhook: no workflow file, no runner."""


@command.command("add")
@click.argument("forge", metavar="github|gitlab")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--token-stdin", is_flag=True, help="Read the repository's access token from stdin, not the keyboard")
@click.option("--no-token", is_flag=True, help="Ask for none: the repository is public, and nothing is reported there")
@click.option("--plain-token", is_flag=True, help="GitLab before 19.0: it sends a secret token and signs nothing")
@org_option
@as_json_option
def add(
    *, forge: str, name: str, token_stdin: bool, no_token: bool, plain_token: bool, org: str | None, as_json: bool
) -> int:
    """Make an address and a secret for a repository's webhook, or for that of a whole GitLab group.

    The access token lets the service read the repository and report there. It is tried at once and kept encrypted. It
    is never an argument: other users of a machine see those.
    """
    token = _read_token(forge, token_stdin=token_stdin, no_token=no_token)
    asked = {"forge": forge, "name": name, "plain_token": plain_token, **({"token": token} if token else {})}
    with opened(as_json=as_json) as (terminal, client):
        hook = client.add_hook(asked, account=org)
        if not document(terminal, hook, as_json=as_json):
            terminal.say(f"🪝 {hook.name} is tested from its first delivery on.")
            if token is None:
                terminal.say("   Without a token only public repositories are read, and nothing is reported there.")
            _say_what_to_paste(terminal, hook)
    return 0


@command.command("list")
@org_option
@as_json_option
def list_(*, org: str | None, as_json: bool) -> int:
    """List my webhooks, with the time of the last delivery."""
    with opened(as_json=as_json) as (terminal, client):
        found = client.list_hooks(account=org)
        if document(terminal, found, as_json=as_json):
            return 0
        for hook in found.hooks:
            for line in hook_lines(hook, org=org, now=datetime.now(UTC)):
                terminal.say(line)
        if not found.hooks:
            terminal.say("No webhooks: `prpm hook add github OWNER/NAME` makes one.")
    return 0


@command.command("rotate")
@click.argument("hook_id", metavar="ID")
@org_option
@as_json_option
def rotate(*, hook_id: str, org: str | None, as_json: bool) -> int:
    """Make another secret for the webhook ID. The one before holds for a day, so that nothing is missed."""
    with opened(as_json=as_json) as (terminal, client):
        hook = client.rotate_hook(hook_id, account=org)
        if not document(terminal, hook, as_json=as_json):
            terminal.say(
                f"🪝 {hook.name} has another secret. The one before holds until {_moment(hook.old_secret_until)}."
            )
            _say_what_to_paste(terminal, hook)
    return 0


@command.command("token")
@click.argument("hook_id", metavar="ID")
@click.option("--token-stdin", is_flag=True, help="Read the new access token from stdin, not the keyboard")
@org_option
@as_json_option
def token(*, hook_id: str, token_stdin: bool, org: str | None, as_json: bool) -> int:
    """Give the webhook ID another access token, as the one before expired or may too little.

    It is tried at once. Address and secret stay: nothing is to be pasted at the forge.
    """
    from cli.errors import InvalidUse

    given = _read_token("", token_stdin=token_stdin, no_token=False)
    if given is None:
        raise InvalidUse("No access token was given; the one before stays.")
    with opened(as_json=as_json) as (terminal, client):
        hook = client.replace_hook_token(hook_id, given, account=org)
        if not document(terminal, hook, as_json=as_json):
            terminal.say(f"🪝 {hook.name} is read and reported to with {hook.token} from now on.")
    return 0


@command.command("remove")
@click.argument("hook_id", metavar="ID")
@org_option
def remove(*, hook_id: str, org: str | None) -> int:
    """Remove the webhook ID: its address is gone at once, its secret and token are forgotten."""
    with opened() as (terminal, client):
        client.remove_hook(hook_id, account=org)
        terminal.say("Removed. Delete the webhook in the repository's settings, too.")
    return 0


def hook_lines(hook: Hook, *, org: str | None, now: datetime) -> list[str]:
    """A webhook as people read it. `org`: the organisation whose it is."""
    what = "group " if hook.is_group else ""
    last = f"last delivery {_moment(hook.last_delivery_at)}" if hook.last_delivery_at else "no delivery yet"
    quiet = _days_since(hook.last_delivery_at or hook.created_at, now)
    if quiet >= QUIET_DAYS:
        last += f" ({quiet} days)"
    lines = [f"{hook.id}  {hook.forge}  {what}{hook.name}", f"   {hook.token or 'without a token'}, {last}"]
    if hook.token_refused_at:
        lines.append(f"   ⚠️  token refused {_moment(hook.token_refused_at)}: {hook.token_refused or ''}")
        lines.append(f"      Give it another one: prpm hook token {hook.id}{f' --org {org}' if org else ''}")
    if quiet >= QUIET_DAYS:
        lines.append("   ⚠️  nothing came for long: if the repository was active, the webhook may be paused or gone.")
        lines.append("      Look into its Settings, Webhooks, and send a test from there.")
    if hook.old_secret_until:
        lines.append(f"   the secret before holds until {_moment(hook.old_secret_until)}")
    return lines


def _say_what_to_paste(terminal: Terminal, hook: Hook) -> None:
    terminal.say("   Paste into the webhook settings of the repository:")
    terminal.say(f"   URL:           {hook.url}")
    terminal.say(f"   {(hook.secret_field or 'Secret') + ':':<14} {hook.secret}   (shown this once)")
    if hook.content_type:
        terminal.say(f"   Content type:  {hook.content_type}")
    terminal.say(f"   Events:        {', '.join(hook.events)}")
    if (urlsplit(hook.url).hostname or "") in ("localhost", "127.0.0.1", "::1"):
        terminal.say(
            "   ⚠️  This address is the service's own machine's: forges elsewhere cannot deliver there until its"
        )
        terminal.say("      operator sets PRPM_PUBLIC_URL.")


def _days_since(moment: str, now: datetime) -> int:
    try:
        return (now - datetime.fromisoformat(moment)).days
    except (ValueError, TypeError):  # another server's words
        return 0


def _moment(text: str | None) -> str:
    return f"{text[:16].replace('T', ' ')} UTC" if text else "now"


def _read_token(forge: str, *, token_stdin: bool, no_token: bool) -> str | None:
    from cli.errors import InvalidUse

    if token_stdin and no_token:
        raise InvalidUse("Choose one of --token-stdin and --no-token.")
    if no_token:
        return None
    if token_stdin:
        token = sys.stdin.readline().strip()
        if not token:
            raise InvalidUse("Nothing came on stdin. Pipe the access token in: `... --token-stdin < FILE`.")
        return token
    if not sys.stdin.isatty():
        raise InvalidUse("Say --token-stdin and pipe the repository's access token in, or say --no-token.")
    if forge in TOKENS:
        click.echo(TOKENS[forge], err=True)
    answer: str = click.prompt(
        "Access token of the repository (empty for none)", hide_input=True, default="", show_default=False, err=True
    )
    return answer.strip() or None
