"""`file://`: other files of the same package, and nothing else. There is no way from here to a disk or a network."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Final, TypeGuard

from evals.json_reader import MAX_BYTES, Document, InvalidText, Path, decode_text, read_json
from evals.manifests import closest
from evals.suites.findings import Findings, InFile, shown
from evals.types import JsonValue
from evals.yaml_reader import read_yaml

SCHEME: Final = "file://"
MAX_MATCHES: Final = 500  # files that one pattern may name
CODE_ENDINGS: Final = (".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".py", ".rb", ".go", ".sh")

_MAX_REFERENCE = 500  # characters


class Place:
    """A decoded value of another file, and its path."""

    __slots__ = ("path", "value")

    def __init__(self, value: JsonValue, path: Path) -> None:
        self.value = value
        self.path = path


class Sources:
    """The files around a suite. Everything that cannot be read becomes a finding at the place that names it."""

    def __init__(self, files: Mapping[str, bytes] | None, *, suite_path: str, findings: Findings) -> None:
        self._files = files
        self._base = posixpath.dirname(suite_path)
        self._findings = findings
        self._decoded: dict[str, Document] = {}

    def resolve(self, reference: str, path: Path) -> list[str]:
        """The files that `file://...` names, in order of their names; empty after a finding."""
        name = reference.removeprefix(SCHEME)
        if self._files is None:
            self._findings.find(path, "file:// works in a suite inside a package only; write the content here")
            return []
        if problem := problem_with(name):
            self._findings.find(path, f"{shown(reference)} {problem}")
            return []
        full = posixpath.normpath(posixpath.join(self._base, name))
        if full.startswith(".."):
            self._findings.find(path, f"{shown(reference)} leads out of the package; only its own files can be named")
            return []
        found = matching(full, self._files)
        if not found:
            self._findings.find(path, f"{shown(reference)} is not in the package{closest(full, self._files)}")
        if len(found) > MAX_MATCHES:
            self._findings.find(path, f"{shown(reference)} names {len(found):,} files; {MAX_MATCHES} are the most")
            return []
        return found

    def holds(self, name: str) -> bool:
        """Whether a plain name, without `file://`, is that of a file here, or a pattern of some."""
        if self._files is None or problem_with(name):
            return False
        return bool(matching(posixpath.normpath(posixpath.join(self._base, name)), self._files))

    def text(self, name: str, path: Path) -> str:
        """The text of a file; empty after a finding."""
        assert self._files is not None  # noqa: S101 - `resolve` gave the name
        try:
            return decode_text(self._files[name], max_bytes=MAX_BYTES)
        except InvalidText as error:
            self._findings.find(path, f"{shown(name)}: {error.message}")
            return ""

    def value(self, name: str, path: Path) -> Place:
        """The value of a JSON or YAML file, and its path there; None after a finding."""
        inside: Path = (*path, InFile(name))
        if name not in self._decoded:
            document = self._decode(name, inside)
            self._decoded[name] = document
            self._findings.add_document(document, file=name)
        return Place(self._decoded[name].value, inside)

    def _decode(self, name: str, inside: Path) -> Document:
        assert self._files is not None  # noqa: S101 - as above
        read = read_json if name.lower().endswith(".json") else read_yaml
        try:
            return read(self._files[name])
        except InvalidText as error:
            lines = {error.path: error.line} if error.line else {}
            self._findings.add_document(Document(None, lines), file=name)
            self._findings.find((*inside, *error.path), error.message)
            return Document(None, lines)


def matching(full: str, names: Collection[str]) -> list[str]:
    """The file of that name, or those that a pattern names, in order."""
    if full in names:
        return [full]
    if not any(sign in full for sign in "*?["):
        return []
    pattern = full.split("/")
    return sorted(name for name in names if _matches(name.split("/"), pattern))


def is_reference(value: JsonValue) -> TypeGuard[str]:
    """Whether the value names a file."""
    return isinstance(value, str) and value.startswith(SCHEME)


def problem_with(name: str) -> str | None:
    """Why the name after `file://` names nothing inside a package; None if it may."""
    if not name or len(name) > _MAX_REFERENCE or not name.isprintable():
        return "names no file"
    if name.startswith(("/", "~")) or "\\" in name or ":" in name:
        return "must be a path inside the package, relative to the suite, with / between folders"
    if name.count("**") > 2:
        return "holds more than two **"
    if "{{" in name or "{%" in name:
        return "holds a template; write the name out"
    return None


def _matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path has the form of a pattern; ** stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])
