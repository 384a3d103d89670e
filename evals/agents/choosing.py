"""Whether a package is run as an agent or its models are asked by themselves, and as which agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Final

from msgspec import Struct

from evals.agents.grants import grant, refused
from evals.agents.layout import lay_out
from evals.agents.plugins import PinnedPlugin
from evals.agents.tasks import AgentKind, AgentLimits, AgentTask
from evals.catalogue import Model
from evals.errors import EngineError
from evals.manifests import bare_name
from evals.packages import Package
from evals.types import Framework, Suite

_KINDS: Final[dict[str, AgentKind]] = {"skill": "skill", "agent": "agent", "slash-command": "slash-command"}


class FrameworkUnavailable(EngineError):
    """What was asked for cannot be run here, or not with this package."""


class Chosen(Struct, frozen=True, kw_only=True):
    """How the package is run. `agent` is None for models by themselves; `notes` are sentences for people."""

    agent: AgentTask | None = None
    notes: tuple[str, ...] = ()


class Wish(Struct, frozen=True, kw_only=True):
    """What the choice depends on. `why_not` says why no agent can be run here; None: it can."""

    asked: Framework | None  # by who runs it; the suite's word counts without one
    suite: Suite
    models: Sequence[Model]
    plugins: tuple[PinnedPlugin, ...] = ()
    why_not: str | None = None
    limits: AgentLimits = AgentLimits()


def choose(package: Package, files: Mapping[str, bytes], wish: Wish) -> Chosen:
    """`auto` takes an agent for Claude agents, for skills that ask for tools, and where there are plugins.

    Where it cannot, it asks the models by themselves and says so. Raises FrameworkUnavailable for what was asked for by
    name: `claude-agent`, and plugins, which nothing else can use.
    """
    asked = wish.asked or wish.suite.framework or "auto"
    if asked == "litellm":
        if wish.plugins:
            raise FrameworkUnavailable("Plugins are for agents: leave them out, or use the framework claude-agent.")
        return Chosen()
    kind = _KINDS.get(package.manifest.subtype) if package.manifest.format == "claude" else None
    is_wanted = asked == "claude-agent" or bool(wish.plugins) or _needs_tools(kind, package)
    if not is_wanted:
        return Chosen()
    obstacle = next(_obstacles(kind, wish), None)
    if kind is not None and obstacle is None:
        return _as_agent(package, files, wish, kind)
    if asked == "claude-agent":
        raise FrameworkUnavailable(f"The framework claude-agent cannot run this: {obstacle}. Use litellm or auto.")
    if wish.plugins:
        raise FrameworkUnavailable(f"Plugins cannot be used for this: {obstacle}. Leave them out.")
    return Chosen(notes=(f"Run without tools, by the framework litellm: {obstacle}.",))


def _needs_tools(kind: AgentKind | None, package: Package) -> bool:
    return kind == "agent" or (kind == "skill" and bool(package.instructions.allowed_tools))


def _obstacles(kind: AgentKind | None, wish: Wish) -> Iterator[str]:
    """Why no agent can be made of it, most telling first; without the full stop."""
    if kind is None:
        yield "only Claude skills, agents and slash commands are run as agents"
    if wish.why_not is not None:
        yield wish.why_not
    names = [model.name for model in wish.models if not model.agents]
    if names:
        yield f"{', '.join(names)} has no deployment that runs agents"
    if any(len(case.messages) != 1 or case.messages[0].role != "user" or case.turns[1:] for case in wish.suite.cases):
        yield "a case has more than one message, and an agent is asked one thing"


def _as_agent(package: Package, files: Mapping[str, bytes], wish: Wish, kind: AgentKind) -> Chosen:
    instructions = package.instructions
    main = instructions.files[0]
    name = _name(package, main, kind)
    left_out = refused(instructions.allowed_tools, plugins=wish.plugins)
    return Chosen(
        agent=AgentTask(
            kind=kind,
            name=name,
            files=lay_out({path: files[path] for path in package.paths}, main=main, kind=kind, name=name),
            system=instructions.system if kind == "agent" else "",
            rules=grant(instructions.allowed_tools, kind=kind, plugins=wish.plugins),
            plugins=wish.plugins,
            limits=wish.limits,
        ),
        notes=(f"The package asks for {', '.join(left_out)}, which the agent was not given.",) if left_out else (),
    )


def _name(package: Package, main: str, kind: AgentKind) -> str:
    """As Claude Code would call it: by the skill's folder, the command's file, else the package."""
    path = PurePosixPath(main)
    own = path.parent.name if kind == "skill" else path.stem
    return own if own and own not in (".", "SKILL") else bare_name(package.manifest.name)
