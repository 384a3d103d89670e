"""Working folders: what belongs to the package is read, nothing outside it and through no link."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from evals.archives import MAX_ARCHIVE_BYTES, read_archive
from evals.errors import InvalidPackage
from evals.folders import pack_folder, read_folder

SAMPLES = Path(__file__).parents[1] / "samples" / "packages"


def a_folder(root: Path, files: dict[str, str], *, listed: list[str] | None = None) -> Path:
    """Files below `root`, with a prpm.json that lists `listed` if that is given."""
    if listed is not None:
        manifest = {
            "name": "sample",
            "version": "1.0.0",
            "description": "A sample package.",
            "format": "generic",
        }
        files = {**files, "prpm.json": json.dumps({**manifest, "files": listed})}
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return root


def test_folder__manifest_names_what_belongs_to_it(tmp_path: Path) -> None:
    files = {
        "a.md": "a",
        "b.md": "b",
        "docs/c.md": "c",
        "docs/deep/d.md": "d",
        ".env": "KEY=1",
        "README.md": "r",
    }
    folder = a_folder(tmp_path, {**files, "LICENSE": "l"}, listed=["./a.md", "docs/"])

    assert sorted(read_folder(folder)) == [
        "LICENSE",
        "README.md",
        "a.md",
        "docs/c.md",
        "docs/deep/d.md",
        "prpm.json",
    ]


@pytest.mark.parametrize(
    "place",
    [
        "prpm.test.yaml",
        "prpm.test.yml",
        "prpm.test.json",
        "tests/prpm.yaml",
        "tests/prpm.json",
        "promptfooconfig.yaml",
    ],
)
def test_folder__suite_comes_along_from_each_place(tmp_path: Path, place: str) -> None:
    folder = a_folder(tmp_path, {"a.md": "a", place: "tests: []", "tests/other.py": ""}, listed=["a.md"])

    assert sorted(read_folder(folder)) == sorted(["a.md", "prpm.json", place])


def test_folder__every_package_of_one_manifest_comes_along() -> None:
    assert sorted(read_folder(SAMPLES / "several")) == ["prpm.json", "rules/polite.md", "rules/short.md"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([".claude/skills/x/SKILL.md", ".claude/skills/x/ref/a.md", "src/main.py", "notes.md"], 2),
        ([".claude/agents/x.md", ".claude/settings.json"], 1),
        ([".claude/commands/git/x.md"], 1),
        ([".cursor/rules/a.mdc", ".cursor/rules/b.mdc", ".cursor/mcp.json"], 2),
        (["AGENTS.md", "package.json"], 1),
        (["CLAUDE.md", "src/x.md"], 1),
        (["SKILL.md", "scripts/x.py", ".hidden/y.md"], 2),
        (["some.md", "other.txt", "x.py"], 2),
    ],
)
def test_folder__without_manifest_holds_what_editors_look_for(tmp_path: Path, files: list[str], expected: int) -> None:
    folder = a_folder(tmp_path, dict.fromkeys(files, "text"))

    assert sorted(read_folder(folder)) == sorted(files[:expected])


def test_folder__repositories_and_dependencies_are_never_searched(tmp_path: Path) -> None:
    hidden = {".git/SKILL.md": "x", "node_modules/a/SKILL.md": "x", "docs/.venv/x.md": "x"}
    folder = a_folder(tmp_path, {"SKILL.md": "s", "docs/a.md": "a", **hidden})

    assert sorted(read_folder(folder)) == ["SKILL.md", "docs/a.md"]


@pytest.mark.parametrize("listed", [".git/config", "../secret.md", "/etc/hostname", "a\\b.md", "*.md", "", "x\ny"])
def test_folder__I4_manifest_that_lists_what_no_package_may_hold_is_refused(tmp_path: Path, listed: str) -> None:
    folder = a_folder(tmp_path / "package", {".git/config": "token"}, listed=[listed])
    (tmp_path / "secret.md").write_text("secret")

    with pytest.raises(InvalidPackage, match=r"prpm\.json") as caught:
        read_folder(folder)

    assert caught.value.message.isprintable()


@pytest.mark.parametrize("where", ["file", "folder", "suite", "manifest"])
def test_folder__I5_symbolic_links_are_refused_by_name(tmp_path: Path, where: str) -> None:
    outside = a_folder(tmp_path / "outside", {"secret.md": "secret", "prpm.test.yaml": "x", "prpm.json": "{}"})
    folder = a_folder(tmp_path / "package", {"a.md": "a"}, listed=["a.md"])
    if where == "file":
        folder = a_folder(folder, {}, listed=["link.md"])
        (folder / "link.md").symlink_to(outside / "secret.md")
    elif where == "folder":
        folder = a_folder(folder, {}, listed=["link/secret.md"])
        (folder / "link").symlink_to(outside)
    elif where == "suite":
        (folder / "prpm.test.yaml").symlink_to(outside / "prpm.test.yaml")
    else:
        (folder / "prpm.json").unlink()
        (folder / "prpm.json").symlink_to(outside / "prpm.json")

    with pytest.raises(InvalidPackage, match="symbolic link"):
        read_folder(folder)


def test_folder__I5_links_met_on_the_way_are_left_out(tmp_path: Path) -> None:
    outside = a_folder(tmp_path / "outside", {"secret.md": "secret"})
    folder = a_folder(tmp_path / "package", {"docs/a.md": "a"}, listed=["docs"])
    (folder / "docs" / "link.md").symlink_to(outside / "secret.md")
    (folder / "docs" / "more").symlink_to(outside)
    (folder / "README.md").symlink_to(outside / "secret.md")

    assert sorted(read_folder(folder)) == ["docs/a.md", "prpm.json"]


def test_folder__I5_named_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {}, listed=["pipe.md"])
    os.mkfifo(folder / "pipe.md")

    with pytest.raises(InvalidPackage, match="no regular file"):
        read_folder(folder)


def test_folder__too_large_is_refused(tmp_path: Path) -> None:
    folder = a_folder(tmp_path, {"a.md": "a", "b.md": "b"}, listed=["a.md", "b.md"])
    for name in ("a.md", "b.md"):
        with (folder / name).open("wb") as file:
            file.truncate(MAX_ARCHIVE_BYTES // 2 + 1)

    with pytest.raises(InvalidPackage, match="larger than 10 MB"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("files", "listed", "words"),
    [
        ({}, None, "holds no package"),
        ({"src/main.py": ""}, None, "holds no package"),
        ({}, ["gone.md"], "lists `gone.md`, which is not in the folder"),
        ({"prpm.json": "{"}, None, "line 1: not JSON"),
        ({"prpm.json": "[]"}, None, "must be an object"),
    ],
)
def test_folder__that_is_no_package_says_why(
    tmp_path: Path, files: dict[str, str], listed: list[str] | None, words: str
) -> None:
    with pytest.raises(InvalidPackage, match=words):
        read_folder(a_folder(tmp_path, files, listed=listed))


def test_folder__that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("a")

    with pytest.raises(InvalidPackage, match="does not exist"):
        read_folder(tmp_path / "gone")
    with pytest.raises(InvalidPackage, match="is a file; name the folder"):
        read_folder(tmp_path / "a.md")


def test_folder__packs_to_what_it_holds() -> None:
    folder = SAMPLES / "claude-skill"

    assert read_archive(pack_folder(folder)) == read_folder(folder)


def test_folder__files_that_a_configuration_names_without_a_scheme_travel(tmp_path: Path) -> None:
    config = """\
prompts: [a.txt, "b.txt"]
description: no.csv
tests:
  # mine
  - one.yaml

  - "two.csv" # more
providers:
  - no.yaml
"""
    names = ["a.txt", "b.txt", "one.yaml", "two.csv", "no.csv", "no.yaml"]
    folder = a_folder(
        tmp_path, {"rule.md": "r", "promptfooconfig.yaml": config, **dict.fromkeys(names, "x")}, listed=["rule.md"]
    )

    assert sorted(read_folder(folder)) == [
        "a.txt",
        "b.txt",
        "one.yaml",
        "promptfooconfig.yaml",
        "prpm.json",
        "rule.md",
        "two.csv",
    ]


def test_folder__files_that_a_sentence_of_a_suite_mentions_stay_at_home(tmp_path: Path) -> None:
    suite = "tests:\n  - input: secrets.json\n    assert:\n      - type: contains\n        value: secrets.json\n"
    folder = a_folder(tmp_path, {"rule.md": "r", "prpm.test.yaml": suite, "secrets.json": "x"}, listed=["rule.md"])

    assert sorted(read_folder(folder)) == ["prpm.json", "prpm.test.yaml", "rule.md"]
