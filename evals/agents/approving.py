"""What a plugin says of its tools now, for the operator who reads it and approves."""

from __future__ import annotations

import tempfile
from pathlib import Path

from evals.agents.plugins import PinnedPlugin
from evals.agents.relay import Relay
from evals.agents.sandbox import ListedTool, list_tools, require_sandbox
from evals.agents.tasks import AgentTask
from evals.errors import EngineError
from evals.models import CompletionRequest, Deployment


class PluginAway(EngineError):
    """It does not start, or cannot be reached."""


async def approve(plugin: PinnedPlugin) -> dict[str, ListedTool]:
    """Name -> what each tool says of itself, with its digest. The plugin runs in a sandbox, as for an agent.

    Raises CannotRunAgents, PluginAway.
    """
    import aiohttp

    require_sandbox()
    task = AgentTask(kind="agent", name="approval", files={}, plugins=(plugin,))
    nobody = Deployment(id="none", backend="claude_agent", model="none", price=None)
    async with aiohttp.ClientSession(trust_env=False) as session:
        with tempfile.TemporaryDirectory(prefix="prpm-agent-") as folder:
            socket = Path(folder, "relay.sock")
            runner = await Relay(task, CompletionRequest(messages=()), nobody, session=session).open(socket)
            try:
                ended = await list_tools(plugin, relay=socket)
            finally:
                await runner.cleanup()
    if ended.ended != "listed":
        raise PluginAway(f"The plugin {plugin.name} does not start, or cannot be reached ({ended.detail[:100]}).")
    return ended.tools
