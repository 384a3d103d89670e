"""What a package says of itself: its prpm.json, or what its layout tells where it has none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from evals.archives import SINGLE_FILE, quoted_path, require_safe_path
from evals.errors import InvalidPackage
from evals.json_reader import Document, InvalidText, Path, read_json
from evals.types import JsonValue

MANIFEST = "prpm.json"

FORMATS = (
    "agents.md", "claude", "claude.md", "continue", "copilot", "cursor", "droid", "gemini", "gemini.md",
    "generic", "kiro", "mcp", "opencode", "ruler", "windsurf",
)  # fmt: skip
SUBTYPES = (
    "agent", "chatmode", "collection", "hook", "prompt", "rule", "skill", "slash-command", "template", "tool",
    "workflow",
)  # fmt: skip

# Where a suite may live beside a package's files, first hit wins; the key in packages[] comes before the
# foreign one.
SUITE_PATHS = ("prpm.test.yaml", "prpm.test.yml", "prpm.test.json", "tests/prpm.yaml", "tests/prpm.json")
FOREIGN_SUITE_PATH = "promptfooconfig.yaml"
# These leave a published package's installation as it was: installers drop every file of that name.
_QUIET_SUITE_PATHS = ("tests/prpm.json",)

_NAME = re.compile(r"(?:@[a-z0-9-]+/)?[a-z0-9-]+")
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?", re.ASCII)
_INHERITED = ("license", "organization", "private", "description", "version", "format", "subtype")


class ListedFile(Struct, frozen=True):
    """One entry of `files`; packages that serve several editors name the format of each."""

    path: str
    format: str | None = None
    subtype: str | None = None


class Manifest(Struct, frozen=True, kw_only=True):
    """One package's description. Where `files` is empty, every file that is there belongs to the package."""

    name: str
    version: str
    format: str
    subtype: str = "rule"
    description: str = ""
    files: tuple[ListedFile, ...] = ()
    main: str | None = None
    organization: str | None = None
    private: bool = False
    entry: int | None = None  # its index in packages[]
    raw: dict[str, Any] = {}
    notes: tuple[str, ...] = ()  # sentences for the user


def read_manifest(
    files: Mapping[str, bytes],
    *,
    name: str | None = None,
    version: str | None = None,
    format: str | None = None,  # noqa: A002 - the contract's word
    subtype: str | None = None,
) -> Manifest:
    """The manifest in these files. Raises InvalidPackage.

    With a prpm.json, `name` (with or without scope) and `version` choose among its packages; without one, all
    four say what the files cannot tell, as for a package that the registry keeps as one text.
    """
    if MANIFEST not in files:
        return _guess_manifest(files, name=name, version=version, format_=format, subtype=subtype)
    every = read_every_manifest(files[MANIFEST])
    return choose_manifest(every, name=name, version=version)


def read_every_manifest(content: bytes) -> tuple[Manifest, ...]:
    """Each package of a prpm.json: itself, or the entries of packages[]. Raises InvalidPackage."""
    try:
        document = read_json(content)
    except InvalidText as error:
        raise InvalidPackage(_located(error.message, error.line)) from None
    reader = _Reader(document)
    manifests = reader.read_all()
    if reader.problems:
        raise InvalidPackage(reader.problems[0], reader.problems)
    return manifests


def is_companion(path: str) -> bool:
    """True for what travels with a package and is not told to a model: manifest, readme, licence, suites."""
    base = path.rpartition("/")[2].lower()
    stem, _, suffix = base.partition(".")
    described = stem in ("readme", "license") and suffix in ("", "md", "txt")
    return described or base == MANIFEST or path in SUITE_PATHS or path == FOREIGN_SUITE_PATH


def bare_name(name: str) -> str:
    """The name without its scope."""
    return name.rpartition("/")[2]


def closest(word: str, known: Iterable[str]) -> str:
    """` (did you mean ...?)`, or nothing when no known word is near."""
    near = get_close_matches(word.lower(), list(known), n=1, cutoff=0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def choose_manifest(manifests: Sequence[Manifest], *, name: str | None, version: str | None) -> Manifest:
    """The one of this name, with or without scope, and of this version if there is one. Raises InvalidPackage."""
    if name is None and len(manifests) == 1:
        return manifests[0]
    names = ", ".join(quoted_path(manifest.name) for manifest in manifests[:20])
    if name is None:
        raise InvalidPackage(f"prpm.json describes several packages. Say which one (`--package NAME`): {names}.")
    exact = [manifest for manifest in manifests if manifest.name == name]
    found = exact or [manifest for manifest in manifests if _same_without_scope(manifest.name, name)]
    if not found:
        raise InvalidPackage(f"prpm.json describes {names}, not {quoted_path(name)}.")
    return next((manifest for manifest in found if manifest.version == version), found[0])


def _same_without_scope(one: str, other: str) -> bool:
    """True if one name has a scope, the other none, and they are equal without it."""
    return bare_name(one) == bare_name(other) and one.startswith("@") != other.startswith("@")


def _located(message: str, line: int | None) -> str:
    return f"{MANIFEST}, line {line}: {message}" if line else f"{MANIFEST}: {message}"


class _Reader:
    """Reads a prpm.json and gathers what is wrong with it."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.problems: list[str] = []

    def read_all(self) -> tuple[Manifest, ...]:
        root = self._document.value
        if not isinstance(root, dict):
            self._problem((), "must be an object with name, version, description, format and files")
            return ()
        entries = root.get("packages")
        if entries is None:
            return (self._read_one(root, (), None),)
        if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
            self._problem(("packages",), "must be a list of objects, one for each package")
            return ()
        inherited = {key: root[key] for key in _INHERITED if key in root}
        return tuple(
            self._read_one(inherited | entry, ("packages", index), index) for index, entry in enumerate(entries)
        )

    def _read_one(self, raw: dict[str, Any], path: Path, entry: int | None) -> Manifest:
        private = raw.get("private", False)
        if not isinstance(private, bool):
            self._problem((*path, "private"), "must be true or false")
        return Manifest(
            name=self._matching(raw, path, "name", _NAME, "`name` or `@scope/name`, in small letters"),
            version=self._matching(raw, path, "version", _VERSION, "a version such as 1.0.0"),
            description=self._text(raw, path, "description") or "",
            format=self._known(raw, path, "format", FORMATS, default=None),
            subtype=self._known(raw, path, "subtype", SUBTYPES, default="rule"),
            files=self._files(raw.get("files"), (*path, "files")),
            main=self._text(raw, path, "main"),
            organization=self._text(raw, path, "organization"),
            private=private is True,
            entry=entry,
            raw=raw,
        )

    def _problem(self, path: Path, message: str) -> None:
        where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
        if len(self.problems) < 100:
            sentence = f"{where}: {message}" if where else message
            self.problems.append(_located(sentence, self._document.line_of(path)))

    def _text(self, raw: dict[str, Any], path: Path, key: str) -> str | None:
        value = raw.get(key)
        if value is not None and not isinstance(value, str):
            self._problem((*path, key), "must be text")
            return None
        return value

    def _matching(self, raw: dict[str, Any], path: Path, key: str, pattern: re.Pattern[str], form: str) -> str:
        value = raw.get(key)
        if not isinstance(value, str) or len(value) > 214 or not pattern.fullmatch(value):
            self._problem((*path, key), f"must be {form}")
            return ""
        return value

    def _known(self, raw: dict[str, Any], path: Path, key: str, known: Sequence[str], *, default: str | None) -> str:
        value = raw.get(key, default)
        if not isinstance(value, str) or value not in known:
            hint = closest(value, known) if isinstance(value, str) else ""
            self._problem((*path, key), f"must be one of {', '.join(known)}{hint}")
            return ""
        return value

    def _files(self, value: JsonValue, path: Path) -> tuple[ListedFile, ...]:
        if value is None:
            return ()
        if not isinstance(value, list):
            self._problem(path, "must be a list of file names")
            return ()
        found = [self._file(item, (*path, index)) for index, item in enumerate(value)]
        return tuple(file for file in found if file is not None)

    def _file(self, value: JsonValue, path: Path) -> ListedFile | None:
        fields = value if isinstance(value, dict) else {"path": value}
        name = fields.get("path")
        if not isinstance(name, str):
            self._problem(path, "must be a file name, or an object with `path`")
            return None
        name = name.removeprefix("./").rstrip("/")
        if problem := _problem_with_file(name):
            self._problem(path, problem)
            return None
        return ListedFile(name, self._text(fields, path, "format"), self._text(fields, path, "subtype"))


def _problem_with_file(name: str) -> str | None:
    if "*" in name:
        return "patterns are not supported; list each file or its folder"
    try:
        require_safe_path(name)
    except InvalidPackage as error:
        return error.message
    return None


class Layout(Struct, frozen=True):
    """Where an editor expects files of one kind. A group `name` makes each name a package of its own."""

    pattern: re.Pattern[str]
    format: str
    subtype: str
    required: str | None = None  # a file that must be there, below the part that `pattern` calls `folder`


class Candidate(Struct, frozen=True):
    """One package that a folder without prpm.json seems to hold."""

    layout: Layout
    name: str | None
    paths: tuple[str, ...]


def _layout(pattern: str, format_: str, subtype: str, required: str | None = None) -> Layout:
    return Layout(re.compile(pattern), format_, subtype, required)


# The most particular first: a folder with a skill and a README is a skill.
LAYOUTS = (
    _layout(r"(?P<folder>\.claude/skills/(?P<name>[^/]+)/).+", "claude", "skill", "SKILL.md"),
    _layout(r"(?P<folder>)[^.].*", "claude", "skill", "SKILL.md"),
    _layout(r"\.claude/agents/(?P<name>[^/]+)\.md", "claude", "agent"),
    _layout(r"\.claude/commands/(?:.+/)?(?P<name>[^/]+)\.md", "claude", "slash-command"),
    _layout(r"\.cursor/commands/(?P<name>[^/]+)\.md", "cursor", "slash-command"),
    _layout(r"\.cursor/rules/.+\.mdc?|\.cursorrules", "cursor", "rule"),
    _layout(r"\.github/chatmodes/(?P<name>[^/]+)\.chatmode\.md", "copilot", "chatmode"),
    _layout(r"\.github/prompts/(?P<name>[^/]+)\.prompt\.md", "copilot", "prompt"),
    _layout(r"\.github/(?:copilot-instructions|instructions/.+\.instructions)\.md", "copilot", "rule"),
    _layout(r"\.windsurf/workflows/(?P<name>[^/]+)\.md", "windsurf", "workflow"),
    _layout(r"\.windsurf/rules/.+\.md|\.windsurfrules", "windsurf", "rule"),
    _layout(r"\.continue/prompts/(?P<name>[^/]+)\.(?:md|prompt)", "continue", "prompt"),
    _layout(r"\.continue/rules/.+\.md", "continue", "rule"),
    _layout(r"\.kiro/agents/(?P<name>[^/]+)\.(?:json|md)", "kiro", "agent"),
    _layout(r"\.kiro/steering/.+\.md", "kiro", "rule"),
    _layout(r"\.gemini/commands/(?:.+/)?(?P<name>[^/]+)\.toml", "gemini", "slash-command"),
    _layout(r"\.opencode/agents?/(?P<name>[^/]+)\.md", "opencode", "agent"),
    _layout(r"\.opencode/commands?/(?P<name>[^/]+)\.md", "opencode", "slash-command"),
    _layout(r"\.factory/droids/(?P<name>[^/]+)\.md", "droid", "agent"),
    _layout(r"\.factory/commands/(?P<name>[^/]+)\.md", "droid", "slash-command"),
    _layout(r"\.ruler/.+\.md", "ruler", "rule"),
    _layout(r"AGENTS\.md", "agents.md", "rule"),
    _layout(r"CLAUDE\.md", "claude.md", "rule"),
    _layout(r"GEMINI\.md", "gemini.md", "rule"),
    _layout(r"[^/]+\.(?:md|mdc|txt|prompt)", "generic", "prompt"),
)


def find_candidates(paths: Iterable[str]) -> tuple[Candidate, ...]:
    """Every package that these paths seem to hold, by the first kind of layout that fits each path."""
    left = sorted(path for path in paths if not is_companion(path))
    found: list[Candidate] = []
    for layout in LAYOUTS:
        if found and layout is LAYOUTS[-1]:
            break  # beside a package, loose texts are notes
        candidates = _candidates_of(layout, left)
        taken = {path for candidate in candidates for path in candidate.paths}
        left = [path for path in left if path not in taken]
        found += candidates
    return tuple(found)


def _candidates_of(layout: Layout, paths: Sequence[str]) -> list[Candidate]:
    groups: dict[tuple[str, str | None], list[str]] = {}
    for path in paths:
        if match := layout.pattern.fullmatch(path):
            parts = match.groupdict()
            groups.setdefault((parts.get("folder") or "", parts.get("name")), []).append(path)
    return [
        Candidate(layout, name, tuple(group))
        for (folder, name), group in groups.items()
        if layout.required is None or folder + layout.required in group
    ]


def _guess_manifest(
    files: Mapping[str, bytes],
    *,
    name: str | None,
    version: str | None,
    format_: str | None,
    subtype: str | None,
) -> Manifest:
    candidate = _choose_candidate(find_candidates(files), name)
    layout, paths = candidate.layout, candidate.paths
    notes = () if tuple(files) == (SINGLE_FILE,) or format_ else (_guess_note(candidate),)
    return Manifest(
        name=name or candidate.name or "unnamed",
        version=version or "0.0.0",
        format=_require_known(format_ or layout.format, FORMATS, "format"),
        subtype=_require_known(subtype or layout.subtype, SUBTYPES, "subtype"),
        files=tuple(ListedFile(path) for path in paths),
        notes=notes,
    )


def _require_known(word: str, known: Sequence[str], what: str) -> str:
    if word not in known:
        raise InvalidPackage(f"The {what} {quoted_path(word)} is not one of {', '.join(known)}{closest(word, known)}.")
    return word


def _choose_candidate(candidates: Sequence[Candidate], name: str | None) -> Candidate:
    if not candidates:
        raise InvalidPackage(
            "No package found: there is no prpm.json, and no file where an editor would look, such as "
            "`.claude/skills/NAME/SKILL.md`, `.cursor/rules/NAME.mdc` or `AGENTS.md`. "
            "Add a prpm.json with `files`."
        )
    if named := [c for c in candidates if name and c.name == bare_name(name)]:
        return named[0]
    first = [c for c in candidates if c.layout is candidates[0].layout]
    if len(first) > 1:
        names = ", ".join(quoted_path(c.name or "") for c in first[:20])
        raise InvalidPackage(
            f"There is no prpm.json and more than one package. Say which one (`--package NAME`): {names}."
        )
    return first[0]


def _guess_note(candidate: Candidate) -> str:
    kind = f"{candidate.layout.format} {candidate.layout.subtype}"
    return f"There is no prpm.json: {quoted_path(candidate.paths[0])} is taken as a {kind}."


def suite_notes(manifest: Manifest) -> tuple[str, ...]:
    """A sentence for each suite that `files` lists: published, it would be installed with the package."""
    noisy = {*SUITE_PATHS, FOREIGN_SUITE_PATH}.difference(_QUIET_SUITE_PATHS)
    return tuple(
        f"`files` lists {file.path}, so installing the package would install its tests: leave it out of "
        "`files`, or move it to tests/prpm.json."
        for file in manifest.files
        if file.path in noisy
    )
