"""`prpm trust`: repositories whose workflows test without a key."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from cli.managing import document, opened

if TYPE_CHECKING:
    from cli.answers import TrustedRepository

org_option = click.option("--org", metavar="NAME", help="Of this organisation")
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")


@click.group("trust", short_help="Let workflows of my repositories test without a key")
def command() -> None:
    """Let workflows of my repositories test without a key."""


@command.command("add")
@click.argument("repository", metavar="OWNER/NAME")
@org_option
@click.option(
    "--issuer", metavar="URL", help="Whose tokens its workflows show: https://gitlab.com  [default: GitHub's]"
)
@click.option("--workflow", metavar="PATH", help="Only this file may, such as .github/workflows/test.yml")
@click.option("--allow-event", "events", multiple=True, metavar="EVENT", help="pull_request_target or workflow_run")
@click.option("--publish", is_flag=True, help="Its workflows may also publish packages and upload results")
@click.option("--replace", is_flag=True, help="Move the link here if it is another account's")
@as_json_option
def add(
    *,
    repository: str,
    org: str | None,
    issuer: str | None,
    workflow: str | None,
    events: tuple[str, ...],
    publish: bool,
    replace: bool,
    as_json: bool,
) -> int:
    """Let workflows of a repository that you administer test for your account.

    A token of yours at the forge is read from stdin and asked with once: gh auth token | prpm trust add OWNER/NAME
    """
    asked: dict[str, Any] = {"repository": repository, "forge_token": _forge_token(repository)}
    optional = {"account": org, "issuer": issuer, "workflow": workflow, "allow_events": list(events)}
    flags = {"may_publish": publish, "replace": replace}
    asked |= {name: value for name, value in (optional | flags).items() if value}
    with opened(as_json=as_json) as (terminal, client):
        linked = client.prove_repository(asked)
        if document(terminal, linked, as_json=as_json):
            return 0
        terminal.say(f"🔗 Workflows of {linked.repository} test for {linked.account}, without a key.")
        terminal.say("   Give the job `permissions: id-token: write`, and leave out `api-token`.")
    return 0


def _forge_token(repository: str) -> str:
    from cli.errors import InvalidUse

    token = "" if sys.stdin.isatty() else sys.stdin.readline().strip()
    if sys.stdin.isatty():
        import getpass

        token = getpass.getpass("A token of yours at the forge (asked with once, not kept): ").strip()
    if token:
        return token
    raise InvalidUse(
        "Show that you administer the repository: give a token of yours at the forge on stdin.",
        details=(f"gh auth token | prpm trust add {repository}",),
    )


@command.command("list")
@org_option
@as_json_option
def list_(*, org: str | None, as_json: bool) -> int:
    """List the trusted repositories."""
    with opened(as_json=as_json) as (terminal, client):
        found = client.list_trusted_repositories(account=org)
        if document(terminal, found, as_json=as_json):
            return 0
        terminal.say("🔗 Workflows that need no key:")
        terminal.say()
        for one in found.trusted_repositories:
            for line in trust_lines(one):
                terminal.say(line)
        if not found.trusted_repositories:
            terminal.say("   none yet: `gh auth token | prpm trust add OWNER/NAME` links a repository")
    return 0


@command.command("remove")
@click.argument("trust_id", metavar="ID")
@org_option
def remove(*, trust_id: str, org: str | None) -> int:
    """Trust the repository with ID no longer; its workflows' tokens end at once."""
    with opened() as (terminal, client):
        client.remove_trusted_repository(trust_id, account=org)
        terminal.say("Removed.")
    return 0


def trust_lines(one: TrustedRepository) -> list[str]:
    """A trusted repository as people read it."""
    lines = [f"   {one.id}  {one.repository}", f"      {one.proof}; its workflows may: {', '.join(one.scopes)}"]
    if one.workflow:
        lines.append(f"      only {one.workflow}")
    if one.allowed_events:
        lines.append(f"      also on {', '.join(one.allowed_events)}")
    return lines
