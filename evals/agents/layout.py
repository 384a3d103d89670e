"""Where the files of a package stand in the project folder that its agent finds.

Only what the package is goes into `.claude`: settings, hooks, and files that speak to every conversation (CLAUDE.md,
.mcp.json) would set models, addresses and permissions, which are not the package's to set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from evals.agents.tasks import AgentKind

_NEVER = frozenset(("claude.md", "claude.local.md", ".mcp.json", "agents.md"))
# https://docs.anthropic.com/en/docs/claude-code/sub-agents#supported-frontmatter-fields
_SETTING = re.compile(
    rb"""["']?(?:model|hooks|mcpServers|permissionMode|permissions|env|settings|agent|context|memory|isolation)["']?\s*:"""
)
_TOP_KEY = re.compile(rb"""["']?[A-Za-z][\w-]*["']?\s*:""")
_FOLDERS: dict[AgentKind, str] = {"skill": "skills", "agent": "agents", "slash-command": "commands"}


def lay_out(files: Mapping[str, bytes], *, main: str, kind: AgentKind, name: str) -> dict[str, bytes]:
    """Path in the project folder -> content. `main` is the path of the file that speaks for the package."""
    own = _own(files, main=main, kind=kind, name=name)
    rest = {path: content for path, content in files.items() if _is_plain(path) and path not in own.values()}
    return rest | {place: _without_settings(place, files[path]) for place, path in own.items()}


def _own(files: Mapping[str, bytes], *, main: str, kind: AgentKind, name: str) -> dict[str, str]:
    """Place below `.claude` -> path in the package."""
    folder = PurePosixPath(".claude", _FOLDERS[kind])
    if kind != "skill":
        return {str(folder / f"{name}.md"): main}
    base = str(PurePosixPath(main).parent)
    inside = {path: path if base == "." else path[len(base) + 1 :] for path in files if _is_below(path, base)}
    places = {str(folder / name / short): path for path, short in inside.items() if base != "." or _is_plain(path)}
    return places | {str(folder / name / "SKILL.md"): main}


def _without_settings(place: str, content: bytes) -> bytes:
    """A prompt's frontmatter without the keys that set more than the prompt: whoever runs it decides on those."""
    if not place.endswith(".md") or not content.startswith((b"---\n", b"---\r\n")):
        return content
    kept: list[bytes] = []
    dropping = False
    lines = iter(content.splitlines(keepends=True))
    kept.append(next(lines))
    for line in lines:
        if line.rstrip() == b"---":
            return b"".join((*kept, line, *lines))
        if _TOP_KEY.match(line):
            dropping = _SETTING.match(line) is not None
        elif line.strip() and not line.startswith((b" ", b"\t", b"-", b"#")):
            dropping = False
        if not dropping:
            kept.append(line)
    return content


def _is_below(path: str, base: str) -> bool:
    return base == "." or path.startswith(f"{base}/")


def _is_plain(path: str) -> bool:
    parts = path.lower().split("/")
    return ".claude" not in parts and ".git" not in parts and parts[-1] not in _NEVER
