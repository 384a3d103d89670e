"""Look at plugins, the MCP servers that agents may be given, and approve their tools."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING

import click

from server.operator.errors import OperatorError
from server.operator.model_source import plugins_text

if TYPE_CHECKING:
    from evals.agents.plugins import PluginCatalogue
    from evals.agents.sandbox import ListedTool


@click.group("plugin")
def command() -> None:
    """Look at plugins and approve their tools. The file is the one that PRPM_PLUGINS names."""


@command.command("list")
def list_() -> None:
    """Every plugin with its approved tools."""
    catalogue = read_catalogue()
    for name in catalogue.names:
        plugin = catalogue.get(name)
        tools = ", ".join(plugin.tools) if plugin and plugin.tools else "no approved tools"
        click.echo(f"{name}: {tools}")


@command.command("pin")
@click.argument("name")
def pin(name: str) -> None:
    """Ask the plugin NAME for its tools and print them with their digests, to be put into the file.

    What the tools say of themselves goes to stderr.

    The plugin is started in the sandbox that agents run in. Read what its tools are described to do before you approve
    them: a model does as descriptions say. Exit 1 when what is approved differs from what the plugin says.
    """
    from evals.agents.approving import approve
    from evals.agents.plugins import check_files

    plugin = read_catalogue().get(name)
    if plugin is None:
        raise OperatorError(f"The plugins file has no {name}; `prpm-testing plugin list` shows what it has.")
    check_files(plugin)
    said = asyncio.run(approve(plugin))
    for tool, listed in said.items():
        tell(tool, listed)
    tools = {tool: listed.digest for tool, listed in said.items()}
    click.echo("tools:")
    for tool, digest in tools.items():
        note = "" if tool not in plugin.tools else "  # approved" if plugin.tools[tool] == digest else "  # CHANGED"
        click.echo(f'  {tool}: "{digest}"{note}')
    gone = [tool for tool in plugin.tools if tool not in tools]
    for tool in gone:
        click.echo(f"  # {tool} was approved, and is gone")
    if gone or any(tools[tool] != digest for tool, digest in plugin.tools.items()):
        sys.exit(1)


def tell(name: str, tool: ListedTool) -> None:
    """All that a model would read of the tool, on stderr: descriptions can hold orders, and so can parameters."""
    from evals.printable import printable, printable_lines

    click.echo(f"{printable(name)}:", err=True)
    for line in [*printable_lines(tool.description), f"parameters: {json.dumps(tool.input_schema)}"]:
        click.echo(f"   {line}", err=True)


def read_catalogue() -> PluginCatalogue:
    """The plugins of PRPM_PLUGINS. Raises OperatorError, InvalidPlugins."""
    from evals.agents.plugins import load_plugins

    if not os.environ.get("PRPM_PLUGINS", "").strip():
        raise OperatorError("Set PRPM_PLUGINS to the path of your plugins file; docs/agents.md shows one.")
    return load_plugins(plugins_text(os.environ), environ=os.environ)
