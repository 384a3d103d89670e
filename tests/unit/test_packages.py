"""Packages of every format and subtype: what the model is told, and why some are refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from evals.errors import InvalidPackage
from evals.folders import read_folder
from evals.manifests import FORMATS, SUBTYPES
from evals.packages import Package, conversation, read_manifest, read_package
from evals.types import Case, Instructions, Message

SAMPLES = Path(__file__).parents[1] / "samples" / "packages"

TOLD = {
    "agents-md-rule": "# Agents\n\nUse tabs.",
    "claude-agent": "You review changes. Name one risk.",
    "claude-md-rule": "Never commit to main.",
    "claude-skill": (
        "# Temperatures\n\nConvert with the formula in reference.md.\n\n"
        "=== .claude/skills/claude-skill/reference.md ===\n\n"
        "Celsius to Fahrenheit: multiply by 9, divide by 5, add 32.\n\n"
        "=== .claude/skills/claude-skill/convert.py ===\n\n"
        "print(9 * 100 / 5 + 32)"
    ),
    "continue-prompt": "Explain the code in three sentences.",
    "copilot-chatmode": "Plan, and never write code.",
    "cursor-rule": "Write SQL keywords in capitals.",
    "gemini-md-rule": "Answer in one line.",
    "generic-template": "Subject first, then three short paragraphs.",
    "kiro-agent": "You help with tests.",
    "kiro-rule": "Every change has a test.",
    "mcp-tool": 'Ask the weather tool before you answer.\n\n=== mcp.json ===\n\n{"command": "weather"}',
    "opencode-agent": "Review kindly.",
    "ruler-rule": "First: read.\n\n=== .ruler/second.md ===\n\nSecond: write.",
    "windsurf-workflow": "1. Run the tests.\n2. Write the change log.",
}
TEMPLATES = {
    "claude-slash-command": "Greet $1 in $2. The whole request was: $ARGUMENTS",
    "droid-slash-command": "Summarise the text below in one sentence.",
    "gemini-slash-command": "Translate into German: $ARGUMENTS",
}
REFUSED = {
    "claude-hook": "A hook runs on events",
    "generic-collection": "only lists other packages",
    "mcp-settings-only": "holds no text",
}


def the_sample(name: str) -> Package:
    return read_package(read_folder(SAMPLES / name))


def a_manifest(**fields: Any) -> bytes:
    given = {"name": "sample", "version": "1.0.0", "description": "A sample package.", "format": "generic"}
    return json.dumps({**given, **fields}).encode()


def test_samples__hold_every_format_and_subtype() -> None:
    manifests = [json.loads(path.read_text()) for path in SAMPLES.glob("*/prpm.json")]

    assert {m["format"] for m in manifests if "format" in m} == set(FORMATS)
    assert {m["subtype"] for m in manifests if "subtype" in m} == set(SUBTYPES)
    assert {path.name for path in SAMPLES.iterdir()} == {*TOLD, *TEMPLATES, *REFUSED, "several"}


@pytest.mark.parametrize("name", TOLD)
def test_package__tells_the_model_its_text_without_frontmatter_and_readme(name: str) -> None:
    instructions = the_sample(name).instructions

    assert instructions.system == TOLD[name]
    assert instructions.template is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_package__slash_command_is_a_template(name: str) -> None:
    instructions = the_sample(name).instructions

    assert instructions.template == TEMPLATES[name]
    assert instructions.system == ""


@pytest.mark.parametrize("name", REFUSED)
def test_package__that_tells_the_model_nothing_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(InvalidPackage, match=REFUSED[name]):
        the_sample(name)


def test_package__keeps_what_the_frontmatter_says() -> None:
    assert the_sample("claude-skill").instructions.allowed_tools == ("Read", "Bash(python:*, ls:*)")
    assert the_sample("claude-agent").instructions.allowed_tools == ("Read", "Grep")
    assert the_sample("copilot-chatmode").instructions.allowed_tools == ("codebase", "search")
    assert the_sample("kiro-agent").instructions.allowed_tools == ("read",)
    assert the_sample("cursor-rule").description == "Rules: for SQL"  # no YAML, and written all the same
    assert the_sample("ruler-rule").description == "A small rule for ruler, kept for tests."


def test_package__text_between_rules_is_no_frontmatter() -> None:
    text = "---\nBe brief.\nBe kind.\n---\nAlways.\n"
    files = {"prpm.json": a_manifest(files=["a.md"]), "a.md": text.encode()}

    assert read_package(files).instructions.system == text.strip()


def test_package__files_are_named_and_in_the_manifests_order() -> None:
    files = {
        "prpm.json": a_manifest(files=["z.md", "a.md", "logo.png"]),
        "z.md": b"Z",
        "a.md": b"A",
        "logo.png": b"\x89\xff",
    }

    instructions = read_package(files).instructions

    assert instructions.files == ("z.md", "a.md")
    assert instructions.system == "Z\n\n=== a.md ===\n\nA"


def test_package__for_several_editors_tells_its_own_format_once() -> None:
    listed = [{"path": "a.mdc", "format": "cursor"}, {"path": "b.md", "format": "claude", "subtype": "skill"}]
    files = {
        "prpm.json": a_manifest(format="claude", files=listed),
        "a.mdc": b"For Cursor",
        "b.md": b"For Claude",
    }

    assert read_package(files).instructions.system == "For Claude"


def test_package__without_listed_files_is_all_but_its_companions() -> None:
    companions = dict.fromkeys(["README.md", "LICENSE", "prpm.test.yaml", "tests/prpm.json", "docs/readme.txt"], b"x")
    files = {"prpm.json": a_manifest(), "rule.md": b"Rule", **companions}

    assert read_package(files).instructions.system == "Rule"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no text"),
        (b"---\ndescription: x\n---\n", "holds no text"),
        (b"\xff\xfe", "not UTF-8"),
        (b"word " * 250_000, "longer than 1,000,000"),
    ],
)
def test_package__whose_text_cannot_be_told_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(InvalidPackage, match=words):
        read_package({"prpm.json": a_manifest(files=["a.md"]), "a.md": content})


def test_package__listed_file_that_is_missing_is_named() -> None:
    with pytest.raises(InvalidPackage, match=r"lists `gone\.md`, which is not in the package"):
        read_package({"prpm.json": a_manifest(files=["gone.md"]), "a.md": b"x"})


def test_package__one_text_without_manifest_is_what_the_caller_says() -> None:
    package = read_package(
        {"prompt.md": b"You are brief."}, name="@ada/brief", version="2.0.0", format="cursor", subtype="rule"
    )

    assert package.instructions == Instructions(
        name="@ada/brief",
        version="2.0.0",
        format="cursor",
        subtype="rule",
        system="You are brief.",
        files=("prompt.md",),
    )
    assert package.notes == ()


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([".claude/skills/pdf/SKILL.md", ".claude/skills/pdf/a.md", "CLAUDE.md"], ("pdf", "claude", "skill")),
        ([".claude/agents/reviewer.md"], ("reviewer", "claude", "agent")),
        ([".claude/commands/fix.md"], ("fix", "claude", "slash-command")),
        ([".cursor/rules/a.mdc", ".cursor/rules/b.mdc"], ("unnamed", "cursor", "rule")),
        (["AGENTS.md", "README.md"], ("unnamed", "agents.md", "rule")),
        (["CLAUDE.md"], ("unnamed", "claude.md", "rule")),
        (["notes.md"], ("unnamed", "generic", "prompt")),
    ],
)
def test_manifest__without_prpm_json_is_guessed_and_says_so(paths: list[str], expected: tuple[str, ...]) -> None:
    manifest = read_manifest(dict.fromkeys(paths, b"text"))

    assert (manifest.name, manifest.format, manifest.subtype) == expected
    assert manifest.notes == (f"There is no prpm.json: `{paths[0]}` is taken as a {expected[1]} {expected[2]}.",)


def test_manifest__two_skills_without_prpm_json_need_a_name() -> None:
    files = dict.fromkeys([".claude/skills/a/SKILL.md", ".claude/skills/b/SKILL.md"], b"text")

    with pytest.raises(InvalidPackage, match=r"more than one package\. Say which one \(`--package NAME`\): `a`, `b`"):
        read_manifest(files)
    assert [file.path for file in read_manifest(files, name="b").files] == [".claude/skills/b/SKILL.md"]


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [("@acme/short", None, 0), ("short", "1.2.0", 0), ("@acme/polite", "9.9.9", 1), ("polite", None, 1)],
)
def test_manifest__of_several_packages_is_chosen_by_name(name: str, version: str | None, expected: int) -> None:
    manifest = read_manifest(read_folder(SAMPLES / "several"), name=name, version=version)

    assert manifest.entry == expected
    assert manifest.organization == "acme"


def test_manifest__of_one_name_in_two_versions_is_chosen_by_version() -> None:
    entry = {"name": "a", "description": "A sample.", "format": "generic", "files": ["a.md"]}
    content = json.dumps({"packages": [{**entry, "version": "1.0.0"}, {**entry, "version": "2.0.0"}]}).encode()

    assert read_manifest({"prpm.json": content}, name="a", version="2.0.0").entry == 1
    assert read_manifest({"prpm.json": content}, name="a", version="0.0.0-snapshot.0123456789ab").entry == 0


@pytest.mark.parametrize("name", [None, "@other/short", "gone"])
def test_manifest__that_does_not_describe_the_package_lists_what_it_does(name: str | None) -> None:
    with pytest.raises(InvalidPackage, match="`@acme/short`, `@acme/polite`"):
        read_manifest(read_folder(SAMPLES / "several"), name=name)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"format": "curser"}, "format: must be one of .*did you mean cursor"),
        ({"subtype": "skil"}, "subtype: must be one of .*did you mean skill"),
        ({"name": "Big Name"}, "name: must be"),
        ({"name": "../x"}, "name: must be"),
        ({"name": "a" * 215}, "name: must be"),
        ({"version": "1"}, "version: must be a version such as"),
        ({"files": "a.md"}, "files: must be a list"),
        ({"files": [1]}, r"files\[0\]: must be a file name"),
        ({"private": "yes"}, "private: must be true or false"),
        ({"packages": []}, "packages: must be a list"),
        ({"packages": [{"name": "a"}, {"name": 1}]}, r"packages\[1\]\.name"),
        ({"description": 1}, "description: must be text"),
    ],
)
def test_manifest__invalid_field_is_named_with_its_line(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidPackage, match=r"prpm\.json, line 1: ") as caught:
        read_manifest({"prpm.json": a_manifest(**fields)})

    assert re.search(words, "\n".join(caught.value.details))


def a_case(*turns: str) -> Case:
    said = [Message("assistant" if index % 2 else "user", turn) for index, turn in enumerate(turns)]
    return Case(title="t", messages=tuple(said))


def told(**fields: Any) -> Instructions:
    return Instructions(name="a", version="1.0.0", format="claude", subtype="rule", **fields)


def test_conversation__system_text_comes_first() -> None:
    assert conversation(told(system="Be brief."), a_case("Hi", "Hello", "Bye")) == (
        Message("system", "Be brief."),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Bye"),
    )


@pytest.mark.parametrize(
    ("template", "arguments", "expected"),
    [
        ("Greet $1 in $2: $ARGUMENTS", "'Ada L' French", "Greet Ada L in French: 'Ada L' French"),
        ("Greet $1 in $2.", "Ada", "Greet Ada in ."),
        ("Say $ARGUMENTS", "$1 and $ARGUMENTS", "Say $1 and $ARGUMENTS"),
        ("Say $1", "it's open", "Say it's"),
        ("Costs $100, $ARGUMENTS", "now", "Costs $100, now"),
        ("Summarise.", "The text.", "Summarise.\n\nThe text."),
        ("Summarise.", " ", "Summarise."),
    ],
)
def test_conversation__template_is_filled_with_the_last_message(template: str, arguments: str, expected: str) -> None:
    messages = conversation(told(template=template), a_case("before", "yes", arguments))

    assert messages == (Message("user", "before"), Message("assistant", "yes"), Message("user", expected))


def test_package__suite_is_found_and_one_in_files_is_reported() -> None:
    files = {
        "prpm.json": a_manifest(files=["a.md", "prpm.test.yaml"]),
        "a.md": b"A",
        "prpm.test.yaml": b"tests: []",
    }

    package = read_package(files)

    assert package.suite is not None
    assert package.suite.path == "prpm.test.yaml"
    assert package.instructions.files == ("a.md",)
    assert package.notes == (
        (
            "`files` lists prpm.test.yaml, so installing the package would install its tests: leave it out of "
            "`files`, or move it to tests/prpm.json."
        ),
    )
