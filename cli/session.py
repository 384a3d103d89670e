"""What every command starts with: the settings that hold, and a client for the server they name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.client import RegistryClient
from cli.terminal import Terminal
from cli.user_config import UserConfig, read_config


def load_config(terminal: Terminal) -> UserConfig:
    """The settings of this process; what the user should know about them is said on stderr."""
    config = read_config(os.environ, home=home_folder(), folder=Path.cwd())
    for note in config.notes:
        terminal.note(note, colour="yellow")
    return config


def home_folder() -> Path:
    """Where ~/.prpmrc lives."""
    return Path.home()


@contextmanager
def open_client(config: UserConfig) -> Iterator[RegistryClient]:
    """A client for the configured server, closed afterwards."""
    client = RegistryClient(config.registry_url, token=config.token)
    try:
        yield client
    finally:
        client.close()
