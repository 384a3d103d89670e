"""A package's files -> what the model is told, by format and subtype, and its conversation with one case."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from msgspec import Struct

from evals.archives import quoted_path
from evals.errors import InvalidPackage
from evals.frontmatter import PromptText, read_prompt_text
from evals.json_reader import InvalidText, read_json
from evals.manifests import (
    ListedFile,
    Manifest,
    bare_name,
    find_candidates,
    is_companion,
    read_manifest,
    suite_notes,
)
from evals.suites import FoundSuite, find_suite
from evals.suites.references import referenced_files
from evals.types import Case, Instructions, Message

__all__ = ["Manifest", "Package", "conversation", "read_manifest", "read_package"]

MAX_TEXT_CHARACTERS = 1_000_000

_NOT_TESTABLE = {
    "collection": "A collection only lists other packages and tells the model nothing: test those packages.",
    "hook": "A hook runs on events in an editor and tells the model nothing, so no answer can be tested.",
}
# Texts in these files are settings or code: they may stand beside a prompt, and are none by themselves.
_SUPPORTING_SUFFIXES = frozenset(
    (".json", ".toml", ".py", ".js", ".ts", ".sh", ".css", ".html", ".sql", ".csv", ".lock", ".ini", ".cfg")
)


class Package(Struct, frozen=True, kw_only=True):
    """A package ready to be tested. `notes` are sentences for its author."""

    manifest: Manifest
    instructions: Instructions
    suite: FoundSuite | None = None
    description: str = ""  # by its frontmatter, else its manifest
    paths: tuple[str, ...] = ()  # of all that belongs to it, pictures and programs too
    notes: tuple[str, ...] = ()


class _Part(Struct, frozen=True):
    """One file's share of what the model is told."""

    path: str
    prompt: PromptText
    supporting: bool


def read_package(
    files: Mapping[str, bytes],
    *,
    name: str | None = None,
    version: str | None = None,
    format: str | None = None,  # noqa: A002 - the contract's word
    subtype: str | None = None,
) -> Package:
    """The package in these files; the arguments are those of `read_manifest`. Raises InvalidPackage."""
    manifest = read_manifest(files, name=name, version=version, format=format, subtype=subtype)
    if reason := _NOT_TESTABLE.get(manifest.subtype):
        raise InvalidPackage(reason)
    parts = _parts(files, manifest)
    return Package(
        manifest=manifest,
        instructions=_instructions(manifest, parts),
        suite=find_suite(files, manifest),
        description=parts[0].prompt.description or manifest.description,
        paths=tuple(_paths(files, manifest)),
        notes=(*manifest.notes, *suite_notes(manifest)),
    )


def conversation(instructions: Instructions, case: Case) -> tuple[Message, ...]:
    """What is sent: the package's system text first, or its template filled with the last message."""
    if instructions.template is not None:
        last = case.messages[-1]
        return (*case.messages[:-1], Message(last.role, _fill(instructions.template, last.content)))
    if not instructions.system:
        return case.messages
    return (Message("system", instructions.system), *case.messages)


# $100 in a prompt is money: places go from 1 to 9, as in the editors.
_PLACE = re.compile(r"\$ARGUMENTS\b|\$([1-9])(?!\d)")


def _fill(template: str, arguments: str) -> str:
    """The template with its places filled; without any, the arguments follow after a blank line."""
    if not _PLACE.search(template):
        return f"{template}\n\n{arguments}" if arguments.strip() else template
    words = _shell_words(arguments)

    # In one pass, so that a `$1` inside an argument stays what it is.
    def value(place: re.Match[str]) -> str:
        if place[1] is None:
            return arguments
        index = int(place[1]) - 1
        return words[index] if index < len(words) else ""

    return _PLACE.sub(value, template)


def _shell_words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an apostrophe in prose opens a quotation that never ends
        return text.split()


def _instructions(manifest: Manifest, parts: Sequence[_Part]) -> Instructions:
    text = _join(parts)
    is_template = manifest.subtype == "slash-command"
    return Instructions(
        name=manifest.name,
        version=manifest.version,
        format=manifest.format,
        subtype=manifest.subtype,
        system="" if is_template else text,
        template=text if is_template else None,
        allowed_tools=parts[0].prompt.allowed_tools,
        files=tuple(part.path for part in parts),
    )


def _join(parts: Sequence[_Part]) -> str:
    """The first text as it stands, then each further one under a line that names its file."""
    text = "\n\n".join(
        part.prompt.text if index == 0 else f"=== {part.path} ===\n\n{part.prompt.text}"
        for index, part in enumerate(parts)
    )
    if len(text) > MAX_TEXT_CHARACTERS:
        raise InvalidPackage(f"The package's text is longer than {MAX_TEXT_CHARACTERS:,} characters.")
    return text


def _parts(files: Mapping[str, bytes], manifest: Manifest) -> list[_Part]:
    """The texts of the package, the main one first. Raises InvalidPackage if there is none."""
    parts = [part for path in _paths(files, manifest) if (part := _read_part(path, files[path]))]
    prompts = [part for part in parts if not part.supporting]
    if not prompts:
        raise InvalidPackage("The package holds no text that a model could be told: its files are empty or settings.")
    main = min(prompts, key=lambda part: _rank(part.path, manifest))
    return [main, *(part for part in parts if part is not main)]


def _rank(path: str, manifest: Manifest) -> int:
    """0 for the file that speaks for the package; equal ranks keep the manifest's order."""
    location = PurePosixPath(path)
    signs = (
        path == (manifest.main or "").removeprefix("./"),
        manifest.subtype == "skill" and location.name == "SKILL.md",
        location.name.partition(".")[0] == bare_name(manifest.name),
    )
    return next((rank for rank, found in enumerate(signs) if found), len(signs))


def _paths(files: Mapping[str, bytes], manifest: Manifest) -> list[str]:
    """Paths of what belongs to the package and speaks to the model, in the manifest's order, each once."""
    if not manifest.files:
        return _untold_left_out(files)
    listed = [path for file in _own(manifest) for path in _expand(file, files)]
    return [path for path in dict.fromkeys(listed) if not is_companion(path)]


def _untold_left_out(files: Mapping[str, bytes]) -> list[str]:
    """All files but companions and those that a suite names, unless a package is all that it names."""
    paths = [path for path in sorted(files) if not is_companion(path)]
    named = frozenset(referenced_files(files.keys(), files.__getitem__))
    told = [path for path in paths if path not in named]
    return told or [path for candidate in find_candidates(paths) for path in candidate.paths] or paths


def _own(manifest: Manifest) -> tuple[ListedFile, ...]:
    """The files in the package's own format; others say the same to other editors."""
    own = tuple(file for file in manifest.files if file.format in (None, manifest.format))
    return own or manifest.files


def _expand(file: ListedFile, files: Mapping[str, bytes]) -> Iterator[str]:
    if file.path in files:
        yield file.path
        return
    below = sorted(path for path in files if path.startswith(f"{file.path}/"))
    if not below:
        raise InvalidPackage(f"prpm.json lists {quoted_path(file.path)}, which is not in the package.")
    yield from below


def _read_part(path: str, content: bytes) -> _Part | None:
    """The file's text; None for pictures and other bytes, and for empty files."""
    supporting = PurePosixPath(path).suffix.lower() in _SUPPORTING_SUFFIXES
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        if path.endswith((".md", ".mdc", ".txt")):
            raise InvalidPackage(f"{quoted_path(path)} is not UTF-8 text; save it as UTF-8.") from None
        return None
    if "\0" in text:
        return None
    if prompt := _prompt_in_settings(path, text):
        return _Part(path, prompt, supporting=False)
    prompt = PromptText(text=text.strip()) if supporting else read_prompt_text(text)
    return _Part(path, prompt, supporting) if prompt.text else None


def _prompt_in_settings(path: str, text: str) -> PromptText | None:
    """The `prompt` of a TOML command (Gemini) or a JSON agent (Kiro)."""
    try:
        fields = _read_settings(path, text)
    except (InvalidText, tomllib.TOMLDecodeError, RecursionError):
        return None
    prompt, description = fields.get("prompt"), fields.get("description")
    if not isinstance(prompt, str) or not prompt.strip():
        return None
    tools = fields.get("tools")
    return PromptText(
        # https://github.com/google-gemini/gemini-cli/blob/main/docs/cli/custom-commands.md
        text=re.sub(r"\{\{\s*args\s*\}\}", "$ARGUMENTS", prompt.strip()),
        description=description if isinstance(description, str) else None,
        allowed_tools=tuple(map(str, tools)) if isinstance(tools, list) else (),
    )


def _read_settings(path: str, text: str) -> dict[str, object]:
    if path.endswith(".toml"):
        return tomllib.loads(text)
    value = read_json(text).value if path.endswith(".json") else None
    return value if isinstance(value, dict) else {}
