"""Agents for tests: packages as drawings, run by the backend or the whole engine against a stand-in of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from evals.agents.choosing import Wish, choose
from evals.agents.sandbox import why_no_agents
from evals.agents.tasks import AgentLimits, AgentTask
from evals.catalogue import Catalogue, Model
from evals.models import BACKENDS, CompletionRequest, Deployment, Secret
from evals.packages import Package, read_package
from evals.types import Case, Completion, Message, Price, Suite
from tests.standins.anthropic_server import KEY, MODEL, AnthropicServer

# `make security` runs them without a skip.
needs_sandbox = pytest.mark.skipif(why_no_agents() is not None, reason=f"no agent can be run: {why_no_agents()}")

PRICE = Price(input=3.0, output=15.0)


def a_skill(
    body: str, *, tools: str = "", name: str = "helper", files: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """A package with one skill, which asks for these tools."""
    head = f"---\nname: {name}\ndescription: Helps\n" + (f"allowed-tools: {tools}\n" if tools else "") + "---\n"
    texts = {f".claude/skills/{name}/SKILL.md": head + body} | dict(files or {})
    return {path: text.encode() for path, text in texts.items()}


def a_claude_agent(body: str, *, tools: str = "", head: str = "") -> dict[str, bytes]:
    """A package with one agent."""
    front = "---\nname: helper\ndescription: Helps\n" + (f"tools: {tools}\n" if tools else "") + head + "---\n"
    return {".claude/agents/helper.md": (front + body).encode()}


def a_command(body: str, *, head: str = "") -> dict[str, bytes]:
    """A package with one slash command."""
    return {".claude/commands/helper.md": f"---\ndescription: Helps\n{head}---\n{body}".encode()}


def a_model(server: AnthropicServer, **changes: Any) -> Model:
    """A model whose agents run against the stand-in."""
    deployment = Deployment(
        id="claude_agent/standin",
        backend="claude_agent",
        model=MODEL,
        price=PRICE,
        base_url=server.base_url,
        key=Secret(KEY),
        timeout_seconds=60.0,
    )
    alone = Deployment(id="echo/standin", backend="echo", model="echo", price=PRICE)
    return Model(name="claude", deployments=(alone,), agents=(msgspec.structs.replace(deployment, **changes),))


def a_catalogue(server: AnthropicServer) -> Catalogue:
    """That model alone."""
    return Catalogue(default="claude", models=[a_model(server)])


def a_task(
    files: Mapping[str, bytes], *, limits: AgentLimits | None = None, plugins: tuple[Any, ...] = ()
) -> AgentTask:
    """The package as the agent that the engine makes of it."""
    package: Package = read_package(dict(files))
    wish = Wish(
        asked="claude-agent",
        suite=Suite(cases=(Case(title="t", messages=(Message("user", "q"),)),)),
        models=[Model(name="claude", deployments=(), agents=(Deployment(id="a", backend="a", model="a", price=None),))],
        plugins=plugins,
        limits=limits or AgentLimits(),
    )
    agent = choose(package, files, wish).agent
    assert agent is not None
    return agent


async def ask(server: AnthropicServer, task: AgentTask, said: str = "Do it.", **changes: Any) -> Completion:
    """One question, straight to the backend."""
    backend = BACKENDS["claude_agent"]()
    request = CompletionRequest(messages=(Message("user", said),), timeout_seconds=60.0, agent=task)
    try:
        return await backend.complete(msgspec.structs.replace(request, **changes), a_model(server).agents[0])
    finally:
        await backend.aclose()
