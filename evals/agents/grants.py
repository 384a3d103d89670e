"""Which tools an agent gets: those that its package asks for, of those that may be given at all.

Everything granted works in the sandbox's own files. What would leave it (WebFetch, WebSearch), start further agents
(Task, Agent) or wait for a person (AskUserQuestion) is given to nobody.
https://docs.anthropic.com/en/docs/claude-code/settings#tools-available-to-claude
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from evals.agents.plugins import PinnedPlugin
from evals.agents.tasks import AgentKind

GRANTABLE: Final = ("Bash", "Edit", "Glob", "Grep", "NotebookEdit", "Read", "TodoWrite", "Write")
# A skill's files are there to be read; an agent that asks for nothing gets no more than that.
ALWAYS: Final = ("Glob", "Grep", "Read")
_RULE = re.compile(r"(?P<tool>[A-Za-z]+)(?:\((?P<only>[^()\n]{1,500})\))?")


def grant(asked: Sequence[str], *, kind: AgentKind, plugins: Sequence[PinnedPlugin]) -> tuple[str, ...]:
    """The rules that hold, in Claude Code's words; what may not be given is left out (`refused` names it)."""
    given = [rule for rule in asked if _tool(rule) in GRANTABLE]
    reading = ALWAYS if kind in ("skill", "agent") and (kind == "skill" or not given) else ()
    of_plugins = [rule for plugin in plugins for rule in plugin.rules]
    own = ("Skill",) if kind == "skill" else ()
    return tuple(dict.fromkeys((*own, *given, *reading, *of_plugins)))


def refused(asked: Sequence[str], *, plugins: Sequence[PinnedPlugin]) -> tuple[str, ...]:
    """What the package asks for and does not get, in its order."""
    given = {rule for plugin in plugins for rule in plugin.rules}
    return tuple(rule for rule in asked if _tool(rule) not in (*GRANTABLE, "Skill") and rule not in given)


def tool_names(rules: Sequence[str]) -> tuple[str, ...]:
    """The built-in tools of these rules, each once: `Bash(git:*)` is of Bash."""
    return tuple(dict.fromkeys(tool for rule in rules if (tool := _tool(rule)) and not rule.startswith("mcp__")))


def _tool(rule: str) -> str | None:
    found = _RULE.fullmatch(rule.strip())
    return found["tool"] if found else None
