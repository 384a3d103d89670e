"""Where words go: the transcript on stdout, progress and trouble on stderr, JSON alone on stdout."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO

import click

from cli.errors import CommandError
from evals.printable import printable


class Terminal:
    """The one door to stdout and stderr; every line is made printable here, so that no caller can forget it.

    `machine`: stdout holds one JSON document and nothing else.
    """

    def __init__(self, *, machine: bool = False) -> None:
        self.machine = machine
        # A locale that cannot show a sign must not end the command.
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:
                reconfigure(errors="replace")

    def say(self, line: str = "", *, colour: str | None = None) -> None:
        """One line of the transcript."""
        self._write(sys.stderr if self.machine else sys.stdout, line, colour)

    def note(self, line: str = "", *, colour: str | None = None) -> None:
        """One line about something that is not the result: warnings, errors, what was ignored."""
        self._write(sys.stderr, line, colour)

    def document(self, value: Any) -> None:
        """The JSON document, ASCII only: safe in every terminal and encoding."""
        click.echo(json.dumps(value, indent=2), file=sys.stdout)

    def explain(self, error: CommandError) -> None:
        """An expected failure, for the reader that was asked for."""
        if self.machine:
            self.document(
                {"error": error.message, "code": error.code}
                | ({"details": list(error.details)} if error.details else {})
                | error.facts
            )
            return
        self.note(f"❌ {error.message}", colour="red")
        for detail in error.details:
            # What the sentence says already need not stand below it again.
            if detail not in error.message:
                self.note(f"   - {detail}")
        for hint in error.hints:
            self.note(hint)

    @property
    def shows_bars(self) -> bool:
        """Whether stderr can redraw a line."""
        return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"

    def _write(self, stream: TextIO, line: str, colour: str | None) -> None:
        text = printable(line)
        if colour and stream.isatty() and not os.environ.get("NO_COLOR"):
            text = click.style(text, fg=colour)
        # Flushed, as stdout and stderr are often one file and must keep their order.
        click.echo(text, file=stream, color=True)
        stream.flush()
