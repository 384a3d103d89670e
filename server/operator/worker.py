"""Claim jobs and run them."""

from __future__ import annotations

import click


@click.command("worker")
def command() -> None:
    """Claim jobs and run them until SIGTERM or Ctrl-C; running ones are then given back."""
    from server.worker import main

    main()
