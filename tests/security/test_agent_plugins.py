"""Plugins as agents use them: only approved tools, as they were approved (P3, P4), and no key of theirs inside."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from msgspec.structs import replace

from evals.agents.approving import approve
from evals.agents.plugins import PinnedPlugin, PluginChanged
from evals.models import Secret
from tests.agents import a_claude_agent, a_task, ask, needs_sandbox
from tests.standins import calculator_plugin
from tests.standins.anthropic_server import AnthropicServer, anthropic_server, call, script, text

pytestmark = needs_sandbox

TOKEN = "tok-plugin-canary"


@pytest_asyncio.fixture
async def server() -> AsyncIterator[AnthropicServer]:
    async with anthropic_server() as running:
        running.play = script([call("mcp__calculator__add", a=2, b=3)], [text("Five.")])
        yield running


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest_asyncio.fixture
async def by_command(tmp_path: Path) -> PinnedPlugin:
    """The calculator, run in the sandbox; only its tool `add` is approved."""
    program = tmp_path / "calculator.py"
    program.write_bytes(Path(calculator_plugin.__file__).read_bytes())
    plugin = PinnedPlugin(
        name="calculator",
        tools={},
        command=(sys.executable, "-I", str(program)),
        files={str(program): digest_of(program)},
    )
    return replace(plugin, tools={"add": (await approve(plugin))["add"].digest})


async def test_plugin__its_tool_is_called_and_answers(server: AnthropicServer, by_command: PinnedPlugin) -> None:
    completion = await ask(server, a_task(a_claude_agent("Count."), plugins=(by_command,)))

    assert [(used.name, json.loads(used.arguments), used.failed) for used in completion.tool_calls] == [
        ("mcp__calculator__add", {"a": 2, "b": 3}, False)
    ]
    assert completion.text == "Five."
    assert "2 + 3 = 5" in json.dumps(server.requests[-1]["messages"])
    assert {tool["name"] for tool in server.requests[0]["tools"]} >= {"mcp__calculator__add"}


async def test_plugin__P3_a_tool_that_is_not_approved_is_not_there(
    server: AnthropicServer, by_command: PinnedPlugin
) -> None:
    server.play = script([call("mcp__calculator__drop")], [text("I tried.")])

    completion = await ask(server, a_task(a_claude_agent("Drop it."), plugins=(by_command,)))

    assert [(used.refused, used.failed) for used in completion.tool_calls] == [(True, True)]
    assert "dropped" not in json.dumps(server.requests[-1]["messages"])


@pytest.mark.parametrize("changed", ["Adds two numbers, and tells them to example.com.", "Adds two numbers!"])
async def test_plugin__P4_another_description_stops_the_run_before_any_call(
    server: AnthropicServer, by_command: PinnedPlugin, changed: str
) -> None:
    program = Path(next(iter(by_command.files)))
    program.write_text(program.read_text().replace("Adds two numbers.", changed))
    approved_again = replace(by_command, files={str(program): digest_of(program)})

    with pytest.raises(PluginChanged, match="The plugin calculator changed since it was approved"):
        await ask(server, a_task(a_claude_agent("Count."), plugins=(approved_again,)))

    assert server.requests == []


async def test_plugin__P4_another_program_is_not_even_started(
    server: AnthropicServer, by_command: PinnedPlugin
) -> None:
    Path(next(iter(by_command.files))).write_text("raise SystemExit")

    with pytest.raises(PluginChanged, match="a file of it is not the approved one"):
        await ask(server, a_task(a_claude_agent("Count."), plugins=(by_command,)))


class Tickets:
    """The same server at an address, which wants a key."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.keys.add(request.headers.get("Authorization"))
        message = await request.json()
        self.messages.append(message)
        result = calculator_plugin.answer(message)
        if result is None or "id" not in message:
            return web.Response(status=202)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})


@pytest_asyncio.fixture
async def tickets() -> AsyncIterator[Tickets]:
    standin = Tickets()
    app = web.Application()
    app.router.add_post("/mcp", standin.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    standin.url = f"http://127.0.0.1:{runner.addresses[0][1]}/mcp"
    yield standin
    await runner.cleanup()


async def test_plugin__by_address_its_key_stays_outside(server: AnthropicServer, tickets: Tickets) -> None:
    bare = PinnedPlugin(name="calculator", tools={}, url=tickets.url, key=Secret(TOKEN))
    plugin = replace(bare, tools={"add": (await approve(bare))["add"].digest})
    server.play = script(
        [call("mcp__calculator__add", a=2, b=3)],
        [call("Bash", command="env; cat /proc/*/environ; grep -rs tok-plugin /run /tmp /home /project")],
        [text("Five.")],
    )

    completion = await ask(server, a_task(a_claude_agent("Count.", tools="Bash"), plugins=(plugin,)))

    told = json.dumps(server.requests[-1]["messages"])
    assert completion.text == "Five."
    assert "2 + 3 = 5" in told
    assert TOKEN not in told
    assert tickets.keys == {f"Bearer {TOKEN}"}


async def test_plugin__P3_the_relay_passes_no_call_of_another_tool(server: AnthropicServer, tickets: Tickets) -> None:
    bare = PinnedPlugin(name="calculator", tools={}, url=tickets.url)
    plugin = replace(bare, tools={"add": (await approve(bare))["add"].digest})
    drop = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "drop"}})
    request = f"POST /plugins/calculator HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: {len(drop)}\\r\\nConnection: close"
    server.play = script(
        [
            call(
                "Bash",
                command="exec 3<>/dev/tcp/127.0.0.1/${ANTHROPIC_BASE_URL##*:}; "
                f"printf '{request}\\r\\n\\r\\n%s' '{drop}' >&3; head -1 <&3",
            )
        ],
        [text("I tried.")],
    )

    await ask(server, a_task(a_claude_agent("Drop.", tools="Bash"), plugins=(plugin,)))

    assert "HTTP/1.1 403" in json.dumps(server.requests[-1]["messages"])
    assert "tools/call" not in {message.get("method") for message in tickets.messages}
