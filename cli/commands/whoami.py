"""`prpm whoami`: whose token is in use, and where."""

from __future__ import annotations

import click


@click.command("whoami", short_help="Show who is logged in, and where")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(as_json: bool) -> int:
    """Show who is logged in, and where; the server is asked."""
    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    terminal = Terminal(machine=as_json)
    config = load_config(terminal)
    with open_client(config) as client:
        user = client.get_user()
    if as_json:
        names = [organization.name for organization in user.organizations]
        terminal.document(
            {"username": user.username, "registry_url": config.registry_url}
            | ({"organizations": names} if names else {})
        )
    else:
        terminal.say(f"{user.username} ({config.registry_url})")
        for organization in user.organizations:
            terminal.say(f"   {organization.name}: {organization.role}")
    return 0
