"""What every family of plug-ins keeps to: a file knows the family's words and shared modules, never a sibling."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = [
    "evals/assertions",
    "evals/models",
    "evals/reports",
    "server/webhooks",
    "server/forges",
    "server/issuers",
    "notifiers",
    "action_entry/ci",
]
FILES = [path for family in FAMILIES for path in sorted((ROOT / family).glob("[!_]*.py"))]


def imported_modules(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_plugin__imports_no_sibling(path: Path):
    family = ".".join(path.parent.relative_to(ROOT).parts)
    siblings = {f"{family}.{other.stem}" for other in path.parent.glob("[!_]*.py") if other != path}

    assert imported_modules(path) & siblings == set()


def test_litellm__is_imported_in_one_place():
    importing = {
        str(path.relative_to(ROOT))
        for room in ("evals", "cli", "server", "benchmarks")
        for path in (ROOT / room).rglob("*.py")
        if any(module.split(".")[0] == "litellm" for module in imported_modules(path))
    }

    assert importing == {"evals/models/litellm.py"}
