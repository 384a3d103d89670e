"""`prpm logout`: forget the token."""

from __future__ import annotations

import os

import click


@click.command("logout", short_help="Forget the token")
def command() -> int:
    """Forget the token in ~/.prpmrc. Everything else in the file stays."""
    from cli.session import home_folder
    from cli.terminal import Terminal
    from cli.user_config import forget_login

    terminal = Terminal()
    forgotten = forget_login(home_folder())
    terminal.say("✅ Logged out" if forgotten else "You were not logged in.")
    if os.environ.get("PRPM_TOKEN"):
        terminal.note("⚠️  PRPM_TOKEN is still set and goes on being used.", colour="yellow")
    return 0
