"""What the Action packs is what the command packs: one rule in two programs, compared on all samples."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest

from action_entry.errors import Misused
from action_entry.packing import pack, read_package
from evals.archives import read_archive
from evals.errors import InvalidPackage
from evals.folders import read_folder
from evals.layouts_file import layouts_text

ROOT = Path(__file__).parents[3]
FOLDERS = sorted(
    path for parent in ("examples", "tests/samples/packages") for path in (ROOT / parent).iterdir() if path.is_dir()
)


def test_layouts__are_the_engines() -> None:
    assert (ROOT / "action_entry" / "package_layouts.json").read_text() == layouts_text()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_packing__samples_hold_the_same_files(folder: Path) -> None:
    try:
        expected = read_folder(folder)
    except InvalidPackage:
        with pytest.raises(Misused):
            read_package(folder)
        return

    assert read_package(folder) == expected
    assert read_archive(pack(expected)) == expected


TREES: dict[str, dict[str, str]] = {
    "a skill beside notes": {"SKILL.md": "x", "notes.txt": "y", "README.md": "z", ".env": "KEY=1"},
    "several places": {
        ".claude/skills/one/SKILL.md": "x",
        ".claude/skills/one/more/data.csv": "y",
        ".claude/skills/no/other.md": "y",
        ".cursor/rules/a.mdc": "x",
        "AGENTS.md": "x",
        "loose.md": "y",
        "src/main.py": "y",
        "node_modules/x/AGENTS.md": "y",
    },
    "loose texts": {"a.md": "x", "b.txt": "y", "LICENSE": "z", "code.py": "w"},
    "files of a suite": {
        "a.md": "x",
        "prpm.test.yaml": "tests: file://cases/*.yaml\n# file://.env file://../x file:///etc/passwd file://secret.pem",
        "cases/one.yaml": "- vars: file://../data/v.json",
        "data/v.json": "{}",
        ".env": "KEY",
        "secret.pem": "KEY",
    },
    "a list with a folder": {
        "prpm.json": '{"name": "@a/b", "version": "1.0.0", "description": "d", "format": "generic", '
        '"files": ["./one.md", {"path": "more/"}]}',
        "one.md": "x",
        "more/two.md": "y",
        "more/.hidden/three.md": "y",
        "rest.md": "z",
        "tests/prpm.json": "[]",
    },
    "an entry of packages": {
        "prpm.json": '{"name": "@a/all", "version": "1.0.0", "description": "d", "format": "generic", '
        '"packages": [{"name": "@a/b", "files": ["one.md"], "tests": []}]}',
        "one.md": "x",
        "other.md": "x",
    },
}


@pytest.mark.parametrize("name", list(TREES))
def test_packing__trees_hold_the_same_files(tmp_path: Path, name: str) -> None:
    for path, text in TREES[name].items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    assert read_package(tmp_path) == read_folder(tmp_path)


@pytest.mark.parametrize(
    "listed",
    [
        "../x",
        "/etc/passwd",
        "a/../../x",
        "C:/x",
        "a\\\\b",
        ".git/config",
        "*.md",
        "missing.md",
        "link.md",
        "linked/x.md",
        "pipe",
    ],
)
def test_packing__G9_lists_that_lead_elsewhere(tmp_path: Path, listed: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link.md").symlink_to("/etc/hostname")
    (tmp_path.parent / "outside").mkdir(exist_ok=True)
    (tmp_path.parent / "outside" / "x.md").write_text("of others")
    (tmp_path / "linked").symlink_to(tmp_path.parent / "outside", target_is_directory=True)
    (tmp_path / "prpm.json").write_text(
        f'{{"name": "@a/b", "version": "1.0.0", "description": "d", "format": "generic", "files": ["{listed}"]}}'
    )

    with pytest.raises(Misused):
        read_package(tmp_path)
    with pytest.raises(InvalidPackage):
        read_folder(tmp_path)


def test_packing__is_the_same_bytes_each_time() -> None:
    assert pack({"b": b"2", "a": b"1"}) == pack({"a": b"1", "b": b"2"})


def test_packing__too_much(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes(secrets.token_bytes(11_000_000))

    with pytest.raises(Misused, match="larger than 10 MB"):
        read_package(tmp_path)
