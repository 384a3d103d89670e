"""`prpm models`: the models that the server can test with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.answers import ModelEntry, ModelList


@click.command("models", short_help="List the models that packages can be tested with")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout")
def command(as_json: bool) -> int:
    """List the models that packages can be tested with, and what they cost."""
    from datetime import UTC, datetime

    import msgspec

    from cli.session import load_config, open_client
    from cli.terminal import Terminal

    terminal = Terminal(machine=as_json)
    with open_client(load_config(terminal)) as client:
        catalogue = client.get_models()
    if as_json:
        terminal.document(msgspec.to_builtins(catalogue))
        return 0
    for line in model_lines(catalogue, today=datetime.now(UTC).date().isoformat()):
        terminal.say(line)
    return 0


def model_lines(catalogue: ModelList, *, today: str) -> list[str]:
    """A line for each model, those that cannot be used now at the end."""
    entries = sorted(catalogue.models, key=lambda entry: not entry.reachable)
    width = max((len(entry.name) for entry in entries), default=0)
    lines = [f"   {entry.name:<{width}}  {_about(entry, today)}".rstrip() for entry in entries]
    return ["🤖 Models:", "", *(lines or ["   none: the server has no key for any model"])]


def _about(entry: ModelEntry, today: str) -> str:
    said = [
        "✅" if entry.reachable else "❌ not available here",
        "default" if entry.default else "",
        _price(entry),
        _succession(entry, today),
        entry.label or "",
    ]
    return "  ".join(part for part in said if part)


def _price(entry: ModelEntry) -> str:
    if entry.free:
        return "free"
    if entry.price is None:
        return ""
    return f"${entry.price.input:g} in, ${entry.price.output:g} out per million tokens"


def _succession(entry: ModelEntry, today: str) -> str:
    if entry.retired and entry.retired > today:
        return f"retires {entry.retired}" + (f", then {entry.successor} answers" if entry.successor else "")
    retired = f"retired {entry.retired}" if entry.retired else ""
    successor = f"answered by {entry.successor}" if entry.successor else ""
    return ", ".join(part for part in (retired, successor) if part)
