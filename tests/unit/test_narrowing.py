"""One package of a folder that holds several."""

from __future__ import annotations

import json
from typing import Any

import pytest

from evals.archives import pack, snapshot_id
from evals.errors import InvalidPackage
from evals.narrowing import narrow, package_names
from evals.packages import read_package


def an_entry(name: str, *files: str, **more: Any) -> dict[str, Any]:
    about = {"version": "1.0.0", "description": "About", "format": "generic", "subtype": "prompt"}
    return {"name": name, **about, "files": list(files), **more}


def a_folder(*entries: dict[str, Any], **files: str) -> dict[str, bytes]:
    manifest = {"name": "many", "license": "MIT", "packages": list(entries)}
    texts = {path: f"You are {path}." for entry in entries for path in entry["files"]} | files
    return {"prpm.json": json.dumps(manifest).encode()} | {path: text.encode() for path, text in texts.items()}


SUITE = "tests: [{input: hi, assert: [{type: contains, value: hi}]}]"
FOLDER = a_folder(
    an_entry("@acme/one", "one.md", "shared.md"),
    an_entry("@acme/two", "two.md", "shared.md"),
    an_entry("@acme/three", "three.md", version="3.0.0", tests=[{"input": "x"}]),
    **{"prpm.test.yaml": SUITE, "README.md": "Read me"},
)


def test_narrow__a_package_has_its_own_files_and_what_belongs_to_none() -> None:
    found = narrow(FOLDER, "@acme/one")

    assert sorted(found) == ["README.md", "one.md", "prpm.json", "prpm.test.yaml", "shared.md"]
    package = read_package(found)
    assert (package.manifest.name, package.manifest.version) == ("@acme/one", "1.0.0")
    assert "You are one.md." in package.instructions.system
    assert "two" not in package.instructions.system


def test_narrow__each_is_another_snapshot_and_the_same_one_each_time() -> None:
    ids = {name: snapshot_id(narrow(FOLDER, name)) for name in package_names(FOLDER)}

    assert len(set(ids.values())) == 3
    assert snapshot_id(narrow(FOLDER, "three")) == ids["@acme/three"]  # without its scope
    changed = FOLDER | {"two.md": b"You are another."}
    assert snapshot_id(narrow(changed, "@acme/one")) == ids["@acme/one"]
    assert pack(narrow(FOLDER, "@acme/one")) == pack(narrow(FOLDER, "@acme/one"))


def test_narrow__the_only_package_stays_as_it_is() -> None:
    folder = a_folder(an_entry("@acme/one", "one.md"))

    assert narrow(folder, "@acme/one") == folder


def test_narrow__what_a_suite_names_stays_though_another_lists_it() -> None:
    suite = "tests: [{input: 'file://three.md', assert: [{type: contains, value: hi}]}]"

    assert "three.md" in narrow(FOLDER | {"prpm.test.yaml": suite.encode()}, "@acme/one")


def test_narrow__folders_that_another_lists_go_whole() -> None:
    folder = a_folder(an_entry("one", "one.md"), an_entry("two", "two"), **{"two/a.md": "A", "two/b/c.md": "C"})
    del folder["two"]

    assert sorted(narrow(folder, "one")) == ["one.md", "prpm.json"]
    assert sorted(narrow(folder, "two")) == ["prpm.json", "two/a.md", "two/b/c.md"]


def test_narrow__skills_beside_each_other_without_a_manifest() -> None:
    folder = {f".claude/skills/{name}/SKILL.md": b"---\nname: x\n---\nYou help." for name in ("alpha", "beta")}
    folder["prpm.test.yaml"] = SUITE.encode()

    found = narrow(folder, "beta")

    assert package_names(folder) == ("alpha", "beta")
    assert sorted(found) == [".claude/skills/beta/SKILL.md", "prpm.test.yaml"]
    assert read_package(found).manifest.name == "beta"


@pytest.mark.parametrize("name", ["@acme/four", "", "@evil/one"])
def test_narrow__says_which_there_are(name: str) -> None:
    with pytest.raises(InvalidPackage, match=r"@acme/one.*@acme/two.*@acme/three"):
        narrow(FOLDER, name)


def test_narrow__no_such_skill() -> None:
    with pytest.raises(InvalidPackage, match="there are alpha"):
        narrow({".claude/skills/alpha/SKILL.md": b"You help."}, "gamma")


def test_read_package__of_several_says_how_to_choose() -> None:
    with pytest.raises(InvalidPackage, match=r"Say which one \(`--package NAME`\)"):
        read_package(FOLDER)
