"""A working folder -> the archive of the package in it: through no link, never `.git`, nothing that no model reads.

The rules are the engine's (`evals/folders.py`), on the standard library alone; a test compares both on all samples.
Where editors keep prompts stands in package_layouts.json, which the engine writes.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import posixpath
import re
import stat
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from action_entry.errors import Misused
from notifiers._text import one_line

MAX_ARCHIVE_BYTES = 10_000_000
MAX_FILES = 2_000
MAX_ENTRIES = 20_000
MOST_REFERENCED = 500
OWN_SUITE = "prpm.test.yaml"  # where the first look goes, so a suite that stands there is the one that counts

_REFERENCE = re.compile(rb"file://([^\s\"'`,\]}]+)")
_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@cache
def layouts() -> Mapping[str, Any]:
    """package_layouts.json."""
    found: Mapping[str, Any] = json.loads(Path(__file__).with_name("package_layouts.json").read_bytes())
    return found


def read_package(root: Path, *, suite: bytes | None = None) -> dict[str, bytes]:
    """Path -> content of what belongs to the package; `suite` stands in place of its own. Raises Misused."""
    folder = Folder(root)
    wanted = _listed(folder) if folder.has(layouts()["manifest"]) else _guessed(folder)
    files = folder.read_all([*wanted, *_companions(folder)])
    if suite is not None:
        files[OWN_SUITE] = suite
    return files


def pack(files: Mapping[str, bytes]) -> bytes:
    """A `.tar.gz`: the same bytes for the same files. Raises Misused if it is too large."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(files):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(files[path]), 0o644
            try:
                tar.addfile(entry, io.BytesIO(files[path]))
            except (ValueError, UnicodeError):
                raise Misused(f"The file name {shown(path)} cannot be packed: it is too long or not UTF-8.") from None
    packed = gzip.compress(buffer.getvalue(), mtime=0)
    if len(packed) > MAX_ARCHIVE_BYTES:
        raise Misused(_too_large())
    return packed


@dataclass(frozen=True)
class Several:
    """One of several packages in a folder. `own`: the files and folders that are its alone, below that folder."""

    name: str
    own: tuple[str, ...]


def several_packages(root: Path) -> tuple[Several, ...]:
    """The packages of a folder that holds more than one; none for any other, and for what cannot be read."""
    folder = Folder(root)
    try:
        found = _in_manifest(folder) if folder.has(layouts()["manifest"]) else _in_layouts(folder)
    except (Misused, ValueError, RecursionError):
        return ()  # what is wrong is said where the package is read
    names = dict.fromkeys(one.name for one in found)
    joined = [Several(name, tuple(path for one in found if one.name == name for path in one.own)) for name in names]
    return tuple(joined) if len(joined) > 1 else ()


def _in_manifest(folder: Folder) -> list[Several]:
    value = json.loads(folder.read(layouts()["manifest"]))
    entries = value.get("packages") if isinstance(value, dict) else None
    packages = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [
        Several(str(entry["name"]), tuple(_name_of(item) for item in entry.get("files") or ()))
        for entry in packages
        if isinstance(entry.get("name"), str) and isinstance(entry.get("files") or [], list)
    ]


def _in_layouts(folder: Folder) -> list[Several]:
    """Those of the most particular layout, which is the one that counts, by the names that it gives them."""
    left = [path for path in folder.walk("") if not _is_companion(path)]
    for layout in layouts()["layouts"]:
        if groups := _groups(layout, left):
            return [
                Several(name, (start,) if start else tuple(sorted(paths))) for (start, name), paths in groups if name
            ]
    return []


def belongs(path: str, one: Several, folder: Folder) -> bool:
    """Whether a changed path, below the folder, changes what is tested of this one of several packages."""
    if any(path == own or path.startswith(f"{own.rstrip('/')}/") for own in one.own):
        return True
    return path == layouts()["manifest"] or path in layouts()["suites"] or path in _companions(folder)


def package_name(root: Path) -> str:
    """The name in the folder's prpm.json, for messages; the folder's own name where there is none."""
    folder = Folder(root)
    try:
        value = json.loads(folder.read(layouts()["manifest"]))
    except (Misused, ValueError, RecursionError):
        value = None
    entries = value.get("packages") if isinstance(value, dict) else None
    if isinstance(entries, list) and len(entries) == 1:
        value = entries[0]
    name = value.get("name") if isinstance(value, dict) else None
    return one_line(name)[:214] if isinstance(name, str) and name else one_line(root.resolve().name)[:214]


def shown(path: str) -> str:
    """A path for people: one line, between quotes, cut."""
    return repr(one_line(path)[:80])


def _listed(folder: Folder) -> list[str]:
    """The manifest and the files that its packages list."""
    manifest = layouts()["manifest"]
    try:
        value = json.loads(folder.read(manifest))
    except (ValueError, RecursionError):
        raise Misused(f"{shown(str(folder.root))}: {manifest} is not JSON.") from None
    if not isinstance(value, dict):
        raise Misused(f"{shown(str(folder.root))}: {manifest} has to be an object.")
    entries = value.get("packages", [value])
    packages = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [manifest, *(path for entry in packages for path in _files_of(entry, folder))]


def _files_of(entry: Mapping[str, Any], folder: Folder) -> Iterator[str]:
    listed = entry.get("files")
    names = [_name_of(item) for item in listed] if isinstance(listed, list) else []
    for name in names:
        require_safe(name)
        if set(name.split("/")) & set(layouts()["never"]):
            raise Misused(f"prpm.json lists {shown(name)}, which no package may hold.")
        if folder.is_folder(name):
            yield from folder.walk(name)
        elif folder.has(name):
            yield name
        else:
            raise Misused(f"prpm.json lists {shown(name)}, which is not in the folder.")
    if not names:
        yield from _guessed(folder)


def _name_of(item: object) -> str:
    name = item.get("path") if isinstance(item, dict) else item
    if not isinstance(name, str) or "*" in name:
        raise Misused("prpm.json: an entry of `files` has to be a file name; patterns are not supported.")
    return name.removeprefix("./").rstrip("/")


def require_safe(path: str) -> None:
    """Raises Misused unless the path is relative, plain and stays below its folder."""
    parts = path.split("/")
    is_odd = "\\" in path or re.match(r"[A-Za-z]:", path) or not path.isprintable()
    if is_odd or "" in parts or "." in parts or ".." in parts:
        raise Misused(f"The file name {shown(path)} leads out of the package or is not a plain relative path.")


def _guessed(folder: Folder) -> list[str]:
    """The files where editors look for prompts, the most particular layout first, as the engine does."""
    left = [path for path in folder.walk("") if not _is_companion(path)]
    found: list[str] = []
    every = layouts()["layouts"]
    for layout in every:
        if found and layout is every[-1]:
            break  # beside a package, loose texts are notes
        taken = _taken(layout, left)
        left = [path for path in left if path not in taken]
        found += sorted(taken)
    if not found:
        raise Misused(
            f"{shown(str(folder.root))} holds no package: there is no prpm.json with `files`, and no file where an "
            "editor would look, such as `.claude/skills/NAME/SKILL.md`. Check the input `path`, and that the "
            "repository was checked out before."
        )
    return found


def _taken(layout: Mapping[str, str], paths: list[str]) -> set[str]:
    return {path for _, group in _groups(layout, paths) for path in group}


def _groups(layout: Mapping[str, str], paths: list[str]) -> list[tuple[tuple[str, str | None], set[str]]]:
    """The layout's packages by folder and name, with their files."""
    groups: dict[tuple[str, str | None], set[str]] = {}
    for path in paths:
        if match := re.fullmatch(layout["pattern"], path):
            parts = match.groupdict()
            groups.setdefault((parts.get("folder") or "", parts.get("name")), set()).add(path)
    required = layout.get("required")
    return [
        ((start, name), group)
        for (start, name), group in groups.items()
        if required is None or start + required in group
    ]


def _is_companion(path: str) -> bool:
    """Manifest, readme, licence and suites: they travel with a package and are not told to a model."""
    base = path.rpartition("/")[2].lower()
    stem, _, suffix = base.partition(".")
    described = stem in ("readme", "license") and suffix in ("", "md", "txt")
    return described or base == layouts()["manifest"] or path in layouts()["suites"]


def _companions(folder: Folder) -> list[str]:
    suites = [path for path in layouts()["suites"] if folder.has(path)]
    beside = [name for name in folder.names() if _is_companion(name) and name != layouts()["manifest"]]
    texts = [name for name in beside if name not in suites and folder.is_file(name)]
    return [*suites, *texts, *_named_by(suites, folder)]


def _named_by(suites: list[str], folder: Folder) -> list[str]:
    """What suites name by `file://`, and what these name in turn: only what tests are made of, nothing hidden."""
    if not any(b"file://" in folder.read(suite) for suite in suites):
        return []
    names = frozenset(folder.walk(""))
    found: set[str] = set()
    waiting = list(suites)
    while waiting and len(found) <= MOST_REFERENCED:
        suite = waiting.pop()
        new = _named_in(folder.read(suite), suite, names) - found
        found |= new
        waiting += [name for name in new if name.lower().endswith((".yaml", ".yml", ".json", ".jsonl"))]
    return sorted(found)


def _named_in(text: bytes, suite: str, names: Collection[str]) -> set[str]:
    found: set[str] = set()
    for match in _REFERENCE.finditer(text):
        name = match[1].decode("utf-8", "replace")
        if _is_odd_reference(name):
            continue
        for base in {posixpath.dirname(suite), ""}:
            full = posixpath.normpath(posixpath.join(base, name))
            found.update(path for path in _matching(full, names) if _travels(path))
    return found


def _is_odd_reference(name: str) -> bool:
    starts_odd = name.startswith(("/", "~")) or "\\" in name or ":" in name
    return starts_odd or not name.isprintable() or name.count("**") > 2 or "{{" in name or "{%" in name


def _matching(full: str, names: Collection[str]) -> list[str]:
    if full in names:
        return [full]
    if not any(sign in full for sign in "*?["):
        return []
    return sorted(name for name in names if path_matches(name.split("/"), full.split("/")))


def path_matches(parts: list[str], pattern: list[str]) -> bool:
    """Whether a path has the form of a pattern; ** stands for any number of folders."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(path_matches(parts[skip:], pattern[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and path_matches(parts[1:], pattern[1:])


def _travels(path: str) -> bool:
    hidden = any(part.startswith(".") for part in path.split("/"))
    return not hidden and path.lower().endswith(tuple(layouts()["named_by_suites"]))


class Folder:
    """Looks below one folder only, and through no symbolic link. Paths have / between folders on every system."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def has(self, path: str) -> bool:
        """True if anything has that name, a link too: reading it then says what is wrong."""
        return os.path.lexists(self.root / path)

    def is_folder(self, path: str) -> bool:
        return stat.S_ISDIR(self._mode(path))

    def is_file(self, path: str) -> bool:
        return stat.S_ISREG(self._mode(path))

    def names(self) -> list[str]:
        """Names directly in the folder."""
        try:
            return sorted(os.listdir(self.root))
        except OSError as error:
            raise Misused(f"{shown(str(self.root))} cannot be read: {error.strerror}.") from None

    def walk(self, below: str) -> list[str]:
        """Paths of the regular files below a folder, sorted; without links, repositories, dependencies."""
        found: list[str] = []
        seen = 0
        self._refuse_links(below)
        for place, folders, names in os.walk(self.root / below if below else self.root):
            folders[:] = sorted(name for name in folders if name not in layouts()["never"])
            seen += len(folders) + len(names)
            if seen > MAX_ENTRIES:
                raise Misused(
                    f"{shown(str(self.root))} has more than {MAX_ENTRIES:,} files; name the package's folder."
                )
            relative = (Path(place, name).relative_to(self.root).as_posix() for name in names)
            found += [path for path in relative if self.is_file(path)]
        return sorted(found)

    def read_all(self, paths: list[str]) -> dict[str, bytes]:
        """The contents, by path. Raises Misused past the limits of an archive."""
        wanted = sorted(set(paths))
        if len(wanted) > MAX_FILES:
            raise Misused(f"The package has more than {MAX_FILES:,} files.")
        files: dict[str, bytes] = {}
        total = 0
        for path in wanted:
            files[path] = self.read(path)
            total += len(files[path])
            if total > MAX_ARCHIVE_BYTES:
                raise Misused(_too_large())
        return files

    def read(self, path: str) -> bytes:
        """The content of a regular file. Raises Misused."""
        require_safe(path)
        self._refuse_links(path)
        try:
            # Not to hang on a named pipe, nor to follow a link that was put there after the check.
            handle = os.open(self.root / path, _OPEN_FLAGS)
        except OSError as error:
            raise Misused(f"{shown(path)} cannot be read: {error.strerror}.") from None
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise Misused(f"{shown(path)} is no regular file.")
            content = file.read(MAX_ARCHIVE_BYTES + 1)
        if len(content) > MAX_ARCHIVE_BYTES:
            raise Misused(_too_large())
        return content

    def _refuse_links(self, path: str) -> None:
        parts = path.split("/") if path else []
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            if stat.S_ISLNK(self._mode(part)):
                raise Misused(
                    f"{shown(part)} is a symbolic link, which packages do not follow; put the file itself there."
                )

    def _mode(self, path: str) -> int:
        """The mode of what is there itself; 0 if nothing is."""
        try:
            return os.lstat(self.root / path).st_mode
        except OSError:
            return 0


def _too_large() -> str:
    return f"The package is larger than {MAX_ARCHIVE_BYTES // 1_000_000} MB; take out what the model does not read."
