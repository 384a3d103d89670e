"""What commands for an account's things share: a terminal with a client, and answers as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cli.client import RegistryClient
    from cli.terminal import Terminal


@contextmanager
def opened(*, as_json: bool = False) -> Iterator[tuple[Terminal, RegistryClient]]:
    """The terminal and a logged-in client. What they need is imported here, so that `--help` stays quick."""
    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    terminal = Terminal(machine=as_json)
    with open_client(load_config(terminal)) as client:
        yield terminal, client


def document(terminal: Terminal, answer: Any, *, as_json: bool) -> bool:
    """Whether the answer was printed as JSON, as was asked for."""
    import msgspec

    if as_json:
        terminal.document(msgspec.to_builtins(answer))
    return as_json
