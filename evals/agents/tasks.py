"""What an agent is asked to be and allowed to do, and how its calls are paid for."""

from __future__ import annotations

from typing import Literal, Protocol

from msgspec import Struct

from evals.agents.plugins import PinnedPlugin

AgentKind = Literal["skill", "agent", "slash-command"]

MIB = 2**20


class AgentLimits(Struct, frozen=True, kw_only=True):
    """What one trial may take at most. What ends by `turns`, `calls` or `tokens` is judged by what it said so far."""

    turns: int = 20  # answers of the model in one conversation
    calls: int = 30  # answers of the model in all
    tokens: int = 400_000  # read and written, over all calls
    seconds: float = 600.0
    memory_bytes: int = 1536 * MIB  # of all its processes; shared pages count for each
    threads: int = 250  # the command alone has about 40
    folder_bytes: int = 64 * MIB  # of each place that it may write to: project, home, /tmp
    file_bytes: int = 48 * MIB


class AgentTask(Struct, frozen=True, kw_only=True):
    """The package as an agent. `files` are laid out in the project folder; no path leaves it."""

    kind: AgentKind
    name: str  # of the skill or command, as Claude Code calls it
    files: dict[str, bytes]
    system: str = ""  # an agent's own prompt
    rules: tuple[str, ...] = ()  # what is granted, in Claude Code's words: Read, Bash(git:*)
    plugins: tuple[PinnedPlugin, ...] = ()
    limits: AgentLimits = AgentLimits()


class Meter(Protocol):
    """Who pays. Asked for each of an agent's calls, as nobody knows beforehand how many there will be."""

    async def admit(self, most_usd: float | None) -> None:
        """The call may be made; None: its price is unknown. Raises CapReached, or ProviderError."""

    def settle(self, most_usd: float | None, cost_usd: float | None) -> None:
        """An admitted call ended; None: nobody knows what it cost."""
