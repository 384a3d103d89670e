"""`prpm login`: keep a token, after asking the server whose it is."""

from __future__ import annotations

import sys

import click


@click.command("login", short_help="Keep a token for hosted testing")
@click.option("--token", metavar="TOKEN", help="The token; asked for when left out, or read from a pipe")
def command(token: str | None) -> int:
    """Keep a token in ~/.prpmrc (mode 0600), after asking the server whose it is.

    Other users of this machine can see --token in the list of processes: prefer the prompt, or
    `prpm login < token-file`.
    """
    from cli.client import RegistryClient
    from cli.errors import InvalidUse
    from cli.session import home_folder, load_config
    from cli.terminal import Terminal
    from cli.user_config import checked_token, store_login

    terminal = Terminal()
    config = load_config(terminal)
    secret = checked_token(token if token is not None else _ask())
    if secret is None:
        raise InvalidUse("No token was given. Make one on the server's pages, then run `prpm login` again.")
    client = RegistryClient(config.registry_url, token=secret)
    try:
        user = client.get_user()
    finally:
        client.close()
    who = {"username": user.username, "userId": user.id, "email": user.email}
    store_login(
        home_folder(),
        registry_url=config.registry_url,
        token=secret,
        who={key: value for key, value in who.items() if value is not None},
    )
    terminal.say(f"✅ Logged in as {user.username} ({config.registry_url})", colour="green")
    return 0


def _ask() -> str:
    if sys.stdin.isatty():
        answer: str = click.prompt("Token", hide_input=True, default="", show_default=False)
        return answer
    return sys.stdin.readline()
