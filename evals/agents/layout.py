"""Where the files of a package stand in the project folder that its agent finds.

Only what the package is goes into `.claude`: settings, hooks, and files that speak to every conversation (CLAUDE.md,
.mcp.json) would set models, addresses and permissions, which are not the package's to set.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath

from evals.agents.tasks import AgentKind

_NEVER = frozenset(("claude.md", "claude.local.md", ".mcp.json", "agents.md"))
_FOLDERS: dict[AgentKind, str] = {"skill": "skills", "agent": "agents", "slash-command": "commands"}


def lay_out(files: Mapping[str, bytes], *, main: str, kind: AgentKind, name: str) -> dict[str, bytes]:
    """Path in the project folder -> content. `main` is the path of the file that speaks for the package."""
    own = _own(files, main=main, kind=kind, name=name)
    rest = {path: content for path, content in files.items() if _is_plain(path) and path not in own.values()}
    return rest | {place: files[path] for place, path in own.items()}


def _own(files: Mapping[str, bytes], *, main: str, kind: AgentKind, name: str) -> dict[str, str]:
    """Place below `.claude` -> path in the package."""
    folder = PurePosixPath(".claude", _FOLDERS[kind])
    if kind != "skill":
        return {str(folder / f"{name}.md"): main}
    base = str(PurePosixPath(main).parent)
    inside = {path: path if base == "." else path[len(base) + 1 :] for path in files if _is_below(path, base)}
    places = {str(folder / name / short): path for path, short in inside.items() if base != "." or _is_plain(path)}
    return places | {str(folder / name / "SKILL.md"): main}


def _is_below(path: str, base: str) -> bool:
    return base == "." or path.startswith(f"{base}/")


def _is_plain(path: str) -> bool:
    parts = path.lower().split("/")
    return ".claude" not in parts and ".git" not in parts and parts[-1] not in _NEVER
