"""A commit at a forge gives the same package as its check-out, whatever has to be fetched first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.errors import InvalidPackage
from evals.folders import read_folder
from evals.listed_folder import ListedFolder, NeedsContents, package_folders

SKILL = b"---\nname: x\n---\nDo it."


def manifest(*files: str) -> bytes:
    return json.dumps(
        {"name": "@a/b", "version": "1.0.0", "description": "B.", "format": "claude", "subtype": "skill",
         "files": list(files)}
    ).encode()  # fmt: skip


FOLDERS: dict[str, dict[str, bytes]] = {
    "with a manifest": {
        "prpm.json": manifest("a/SKILL.md", "b"),
        "a/SKILL.md": SKILL,
        "b/c.md": b"c",
        "loose.md": b"no",
    },
    "without one": {".claude/skills/x/SKILL.md": SKILL, ".claude/skills/x/more.md": b"more", "README.md": b"# X"},
    "a cursor rule": {".cursor/rules/x.mdc": b"---\ndescription: x\n---\nDo.", "src/main.py": b"print()"},
    "with a suite that names files": {
        "prpm.json": manifest("SKILL.md"),
        "SKILL.md": SKILL,
        "prpm.test.yaml": b"tests: file://cases/*.yaml\n",
        "cases/one.yaml": b"- input: Hi\n",
        "cases/.hidden.yaml": b"- input: no\n",
    },
    "with a configuration that names files without a scheme": {
        "prpm.json": manifest("SKILL.md"),
        "SKILL.md": SKILL,
        "promptfooconfig.yaml": b'prompts: [a.txt, "b.txt"]\ntests:\n  - cases/one.yaml\n  - "two.csv"\n',
        "a.txt": b"A {{ q }}",
        "b.txt": b"B {{ q }}",
        "cases/one.yaml": b"- vars: {q: 1}\n",
        "two.csv": b"q,__expected\n1,1\n",
        "other.csv": b"no",
    },
    "beside what never travels": {
        ".claude/skills/x/SKILL.md": SKILL,
        "node_modules/y/.claude/skills/z/SKILL.md": SKILL,
        ".venv/prpm.json": b"{}",
    },
}


def on_disk(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def fetched(files: dict[str, bytes], **kinds: str) -> tuple[dict[str, bytes], list[tuple[str, ...]]]:
    """What the folder gives, and what was fetched at each try."""
    contents: dict[str, bytes] = {}
    tries: list[tuple[str, ...]] = []
    while True:
        try:
            return ListedFolder(dict.fromkeys(files, "file") | kinds, contents, label="acme/prompts").collect(), tries
        except NeedsContents as needs:
            tries.append(needs.paths)
            contents |= {path: files[path] for path in needs.paths}


@pytest.mark.parametrize("name", FOLDERS)
def test_commit__gives_the_files_that_its_check_out_gives(tmp_path: Path, name: str):
    found, tries = fetched(FOLDERS[name])

    assert found == read_folder(on_disk(tmp_path, FOLDERS[name]))
    fetched_paths = [path for paths in tries for path in paths]
    assert len(fetched_paths) == len(set(fetched_paths))
    assert len(tries) <= 5


def test_commit__nothing_is_fetched_that_is_no_part_of_the_package():
    _, tries = fetched(FOLDERS["with a manifest"])

    assert "loose.md" not in {path for paths in tries for path in paths}


def test_commit__without_a_package_says_so_like_a_folder(tmp_path: Path):
    files = {"src/main.py": b""}

    with pytest.raises(InvalidPackage, match="holds no package") as here:
        fetched(files)
    with pytest.raises(InvalidPackage, match="holds no package"):
        read_folder(on_disk(tmp_path, files))

    assert "acme/prompts" in here.value.message


@pytest.mark.parametrize(
    ("kind", "sentence"), [("link", "is a symbolic link"), ("submodule", "is a submodule, which is another repository")]
)
def test_commit__links_and_submodules_are_named_and_never_followed(kind: str, sentence: str):
    files = {"prpm.json": manifest("lib/SKILL.md"), "lib/SKILL.md": SKILL}

    with pytest.raises(InvalidPackage, match=sentence):
        fetched(files, lib=kind)


def test_commit__a_pointer_of_git_lfs_is_no_text():
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"

    with pytest.raises(InvalidPackage, match="kept in Git LFS"):
        fetched({"prpm.json": manifest("SKILL.md"), "SKILL.md": pointer})


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "a\\b"])
def test_commit__a_manifest_cannot_lead_out_of_it(path: str):
    with pytest.raises(InvalidPackage):
        fetched({"prpm.json": manifest(path), "SKILL.md": SKILL})


def test_package_folders__are_those_with_a_sign_of_a_package():
    paths = dict.fromkeys(
        ["prpm.json", "a/prpm.json", "a/b/tests/prpm.json", "c/xprpm.json", "node_modules/d/prpm.json"], "file"
    )

    found = package_folders(paths, frozenset({"prpm.json", "tests/prpm.json"}))

    assert found == ("", "a", "a/b", "a/b/tests")
