"""Runs in the sandbox, where no secret is and no network: one agent on one question, by the Claude Agent SDK.

It reads one line of JSON (evals/agents/sandbox.py writes it) and writes one. It imports nothing of ours: this file
alone is put into the sandbox. What it says of the run is not believed but for how it ended: answers, calls of tools and
tokens are counted by the relay, outside.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

PROJECT = Path("/project")
HOME = Path("/home/agent")
RELAY = "/run/relay.sock"
# Otherwise the command tells every model how to sign commits, before the question.
SETTINGS = '{"attribution": {"commit": "", "pr": ""}}'
MAX_RESULT = 200_000  # characters of what a plugin's tool answers


class PluginTrouble(Exception):
    """A plugin is not what was approved, or does not start."""

    def __init__(self, plugin: str, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.report = {"ended": kind, "plugin": plugin, "detail": detail}


def main() -> None:
    """Read the task, run it, say how it ended."""
    task = json.loads(sys.stdin.readline())
    limit_self(task["limits"])
    lay_out(task["files"])
    report: dict[str, Any] = {"ended": "no_result", "is_error": True}
    try:
        report = asyncio.run(list_plugin(task) if "pin" in task else run(task))
    except* PluginTrouble as troubles:
        # A group, and groups in it, as it passes through the sessions of other plugins.
        report = first_of(troubles).report
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def first_of(troubles: BaseExceptionGroup[PluginTrouble]) -> PluginTrouble:
    """The first trouble of a group."""
    first = troubles.exceptions[0]
    return first_of(first) if isinstance(first, BaseExceptionGroup) else first


def limit_self(limits: dict[str, int]) -> None:
    """No core dumps, no large file, not too many processes (root may start more; the watch outside counts them)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits["file_bytes"],) * 2)
    resource.setrlimit(resource.RLIMIT_NPROC, (limits["threads"],) * 2)


def lay_out(files: dict[str, str]) -> None:
    """The package's files stand in the project folder; their paths were checked outside."""
    for path, content in files.items():
        place = PROJECT / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(base64.b64decode(content))


@asynccontextmanager
async def relay_port() -> AsyncIterator[int]:
    """A port of this sandbox's own loopback that leads to the relay, and to nothing else."""

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_unix_connection(RELAY)
        except OSError:
            writer.close()
            return
        await asyncio.gather(copy(reader, back), copy(there, writer))

    async def copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while piece := await source.read(65536):
                target.write(piece)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def run(task: dict[str, Any]) -> dict[str, Any]:
    """One question to its end. The SDK is imported late, while the relay's port opens."""
    from claude_agent_sdk import ClaudeAgentOptions, ResultError, ResultMessage, query

    async with relay_port() as port, AsyncExitStack() as stack:
        servers = {
            name: await open_plugin(name, plugin, port=port, stack=stack) for name, plugin in task["plugins"].items()
        }
        options = ClaudeAgentOptions(
            tools=task["tools"],
            allowed_tools=task["allowed"],
            disallowed_tools=task["disallowed"],
            skills=task["skills"] or None,
            mcp_servers=servers,
            strict_mcp_config=True,
            setting_sources=["project"],
            settings=SETTINGS,
            permission_mode="dontAsk",
            system_prompt=task["system"],
            model=task["model"],
            max_turns=task["max_turns"],
            thinking={"type": "disabled"},
            cwd=PROJECT,
            env=cli_environment(task, port=port),
        )
        result: ResultMessage | None = None
        try:
            async for message in query(prompt=task["prompt"], options=options):
                if isinstance(message, ResultMessage):
                    result = message
        except ResultError:
            pass  # the result was told before
        if result is None:
            return {"ended": "no_result"}
        # An upstream 404 is told as the subtype `success` with an error: the flag is what counts.
        return {"ended": result.subtype, "is_error": bool(result.is_error)}


def cli_environment(task: dict[str, Any], *, port: int) -> dict[str, str]:
    """What the command is told. The key is none: the relay adds it, where nothing of this can look."""
    model = task["model"]
    return {
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{port}",
        "ANTHROPIC_API_KEY": "no-key-in-here",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "ANTHROPIC_DEFAULT_SONNET_MODEL": model,
        "ANTHROPIC_DEFAULT_OPUS_MODEL": model,
        "CLAUDE_CONFIG_DIR": str(HOME / ".claude"),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(task["max_tokens"]),
        "CLAUDE_CODE_MAX_RETRIES": "0",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_DISABLE_CLAUDE_MDS": "1",
        "CLAUDE_CODE_DISABLE_EXPERIMENTAL_BETAS": "1",
        "DISABLE_TELEMETRY": "1",
        "DISABLE_ERROR_REPORTING": "1",
        "DISABLE_AUTOUPDATER": "1",
        # Prices are by the token, and a written cache costs more than what it was written of.
        "DISABLE_PROMPT_CACHING": "1",
    }


async def open_plugin(name: str, plugin: dict[str, Any], *, port: int, stack: AsyncExitStack) -> Any:
    """The plugin's tools as the operator pinned them, behind a server in this process. Raises PluginTrouble."""
    from claude_agent_sdk import SdkMcpTool, create_sdk_mcp_server

    session = await connect(name, plugin, port=port, stack=stack)
    listed = {tool["name"]: tool for tool in await list_tools(name, session)}
    for tool, pinned in plugin["tools"].items():
        if tool not in listed:
            raise PluginTrouble(name, "plugin_changed", f"the tool {tool} is gone")
        if digest(listed[tool]) != pinned:
            raise PluginTrouble(name, "plugin_changed", f"the tool {tool} is described otherwise")

    def handler(tool: str) -> Any:
        async def call(arguments: dict[str, Any]) -> dict[str, Any]:
            return await call_tool(session, tool, arguments)

        return call

    return create_sdk_mcp_server(
        name,
        tools=[
            SdkMcpTool(
                name=tool,
                description=listed[tool]["description"],
                input_schema=listed[tool]["input_schema"],
                handler=handler(tool),
            )
            for tool in plugin["tools"]
        ],
    )


async def connect(name: str, plugin: dict[str, Any], *, port: int, stack: AsyncExitStack) -> Any:
    """A session with the plugin, by its command in here or through the relay. Raises PluginTrouble."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client
    from mcp.client.streamable_http import streamable_http_client

    try:
        async with asyncio.timeout(plugin["start_seconds"]):
            if "command" in plugin:
                program, *arguments = plugin["command"]
                parameters = StdioServerParameters(command=program, args=arguments, env=dict(os.environ))
                streams = await stack.enter_async_context(stdio_client(parameters, errlog=sys.stderr))
            else:
                url = f"http://127.0.0.1:{port}/plugins/{name}"
                streams = await stack.enter_async_context(streamable_http_client(url))
            session = await stack.enter_async_context(ClientSession(streams[0], streams[1]))
            await session.initialize()
    except PluginTrouble:
        raise
    except Exception as error:  # noqa: BLE001 - a plugin may fail in every way that there is
        raise PluginTrouble(name, "plugin_away", type(error).__name__) from None
    return session


async def list_tools(name: str, session: Any) -> list[dict[str, Any]]:
    """Name, description and input schema of each tool. Raises PluginTrouble."""
    try:
        found = await session.list_tools()
    except Exception as error:  # noqa: BLE001 - as above
        raise PluginTrouble(name, "plugin_away", type(error).__name__) from None
    tools = [tool.model_dump(mode="json", by_alias=True) for tool in found.tools]
    return [
        {
            "name": tool["name"],
            "description": tool.get("description") or "",
            "input_schema": tool.get("inputSchema") or {},
        }
        for tool in tools
    ]


async def call_tool(session: Any, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """What the tool answers, as text: pictures and links lead nowhere from in here."""
    try:
        answer = await session.call_tool(tool, arguments)
    except Exception as error:  # noqa: BLE001 - the model is told, and may try otherwise
        return {"content": [{"type": "text", "text": f"The tool failed: {type(error).__name__}."}], "is_error": True}
    text = "\n".join(part.text for part in answer.content if getattr(part, "type", "") == "text")
    failed = bool(getattr(answer, "is_error", False) or getattr(answer, "isError", False))
    return {"content": [{"type": "text", "text": text[:MAX_RESULT]}], "is_error": failed}


def digest(tool: dict[str, Any]) -> str:
    """`sha256:` and hex, over all that a model reads of a tool."""
    canonical = json.dumps(tool, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return f"sha256:{hashlib.sha256(canonical.encode()).hexdigest()}"


async def list_plugin(task: dict[str, Any]) -> dict[str, Any]:
    """The tools of one plugin with their digests and all that they say, for the operator who approves them."""
    name = task["pin"]
    async with relay_port() as port, AsyncExitStack() as stack:
        session = await connect(name, task["plugins"][name], port=port, stack=stack)
        tools = await list_tools(name, session)
    return {"ended": "listed", "tools": {tool["name"]: {"digest": digest(tool), **tool} for tool in tools}}


if __name__ == "__main__":
    main()
