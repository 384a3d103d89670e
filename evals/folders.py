"""A working folder -> the files of the package in it, without following links or leaving the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from evals.archives import MAX_ARCHIVE_BYTES, MAX_FILES, pack, quoted_path, require_safe_path
from evals.errors import InvalidPackage
from evals.manifests import (
    FOREIGN_SUITE_PATH,
    MANIFEST,
    SUITE_PATHS,
    Manifest,
    find_candidates,
    is_companion,
    read_every_manifest,
)
from evals.suites.references import names_files, referenced_files

_MAX_ENTRIES = 20_000  # looked at while searching for a package; a home folder has more
NEVER_PACKED = frozenset((".git", ".hg", ".svn", "node_modules", ".venv", "__pycache__"))


def read_folder(path: str | os.PathLike[str]) -> dict[str, bytes]:
    """Path -> content of what belongs to the package(s): listed files, manifest, readme, licence, suites.

    Without a prpm.json, the files where editors look for prompts. Raises InvalidPackage.
    """
    root = Path(path)
    if not root.is_dir():
        what = "is a file; name the folder that holds it" if root.exists() else "does not exist"
        raise InvalidPackage(f"The folder {quoted_path(str(path))} {what}.")
    return collect(_Folder(root))


class FolderView(Protocol):
    """What is asked of a folder, wherever it is: a disk, or a commit at a forge. Paths are relative, with `/`.

    Each raises InvalidPackage for what cannot be had.
    """

    @property
    def label(self) -> str:
        """What people call it."""

    def has(self, path: str) -> bool:
        """True if anything has that name, a link too: reading it then says what is wrong."""

    def is_folder(self, path: str) -> bool: ...

    def is_file(self, path: str) -> bool: ...

    def names(self) -> list[str]:
        """Names directly in the folder."""

    def walk(self, below: str) -> list[str]:
        """Paths of the regular files below a folder, sorted; without links, repositories, dependencies."""

    def read(self, path: str) -> bytes:
        """The content of a regular file."""

    def read_all(self, paths: tuple[str, ...]) -> dict[str, bytes]:
        """The contents, by path."""


def collect(folder: FolderView) -> dict[str, bytes]:
    """Path -> content of what belongs to the package(s) in the folder. Raises InvalidPackage."""
    wanted = _listed(folder) if folder.has(MANIFEST) else _guessed(folder)
    return folder.read_all((*wanted, *_companions(folder)))


def pack_folder(path: str | os.PathLike[str]) -> bytes:
    """The folder's package as a deterministic `.tar.gz`. Raises InvalidPackage."""
    return pack(read_folder(path))


def _listed(folder: FolderView) -> list[str]:
    manifests = read_every_manifest(folder.read(MANIFEST))
    return [MANIFEST, *(path for manifest in manifests for path in _files_of(manifest, folder))]


def _files_of(manifest: Manifest, folder: FolderView) -> Iterator[str]:
    for file in manifest.files:
        if set(file.path.split("/")) & NEVER_PACKED:
            raise InvalidPackage(f"prpm.json lists {quoted_path(file.path)}, which no package may hold.")
        if folder.is_folder(file.path):
            yield from folder.walk(file.path)
        elif folder.has(file.path):
            yield file.path
        else:
            raise InvalidPackage(f"prpm.json lists {quoted_path(file.path)}, which is not in the folder.")
    if not manifest.files:
        yield from _guessed(folder)


def _guessed(folder: FolderView) -> list[str]:
    found = [path for candidate in find_candidates(folder.walk("")) for path in candidate.paths]
    if not found:
        raise InvalidPackage(
            f"{quoted_path(folder.label)} holds no package: there is no prpm.json with `files`, and no "
            "file where an editor would look, such as `.claude/skills/NAME/SKILL.md`, "
            "`.cursor/rules/NAME.mdc` or `AGENTS.md`."
        )
    return found


def _companions(folder: FolderView) -> list[str]:
    suites = [path for path in (*SUITE_PATHS, FOREIGN_SUITE_PATH) if folder.has(path)]
    texts = [name for name in folder.names() if name != MANIFEST and is_companion(name) and name not in suites]
    return [*suites, *(name for name in texts if folder.is_file(name)), *_named_by(suites, folder)]


def _named_by(suites: list[str], folder: FolderView) -> list[str]:
    """The files that the suites name; the folder is looked through only if there are any."""
    if not any(names_files(folder.read(suite)) for suite in suites):
        return []
    return referenced_files(frozenset(folder.walk("")), folder.read)


class _Folder:
    """Looks below one folder only, and through no symbolic link."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.label = str(root)

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
            raise InvalidPackage(f"{quoted_path(str(self.root))} cannot be read: {error.strerror}.") from None

    def walk(self, below: str) -> list[str]:
        """Paths of the regular files below a folder, sorted; without links, repositories, dependencies."""
        found: list[str] = []
        seen = 0
        for place, folders, names in os.walk(self.root / below):
            folders[:] = sorted(name for name in folders if name not in NEVER_PACKED)
            seen += len(folders) + len(names)
            if seen > _MAX_ENTRIES:
                raise InvalidPackage(
                    f"{quoted_path(str(self.root))} has more than {_MAX_ENTRIES:,} files; "
                    "name the package's own folder."
                )
            relative = (Path(place, name).relative_to(self.root).as_posix() for name in names)
            found += [path for path in relative if self.is_file(path)]
        return sorted(found)

    def read_all(self, paths: tuple[str, ...]) -> dict[str, bytes]:
        """The contents, by path. Raises InvalidPackage past the limits of an archive."""
        wanted = sorted(set(paths))
        if len(wanted) > MAX_FILES:
            raise InvalidPackage(f"The package has more than {MAX_FILES:,} files.")
        files: dict[str, bytes] = {}
        total = 0
        for path in wanted:
            files[path] = self.read(path)
            total += len(files[path])
            if total > MAX_ARCHIVE_BYTES:
                raise InvalidPackage(_too_large())
        return files

    def read(self, path: str) -> bytes:
        """The content of a regular file. Raises InvalidPackage."""
        require_safe_path(path)
        self._refuse_links(path)
        try:
            # Not to hang on a named pipe, nor to follow a link that was put there after the check.
            handle = os.open(self.root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError as error:
            raise InvalidPackage(f"{quoted_path(path)} cannot be read: {error.strerror}.") from None
        with open(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise InvalidPackage(f"{quoted_path(path)} is no regular file.")
            content = file.read(MAX_ARCHIVE_BYTES + 1)
        if len(content) > MAX_ARCHIVE_BYTES:
            raise InvalidPackage(_too_large())
        return content

    def _refuse_links(self, path: str) -> None:
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            if stat.S_ISLNK(self._mode(part)):
                raise InvalidPackage(
                    f"{quoted_path(part)} is a symbolic link, which packages do not follow; put the file itself there."
                )

    def _mode(self, path: str) -> int:
        """The mode of what is there itself; 0 if nothing is."""
        try:
            return os.lstat(self.root / path).st_mode
        except OSError:
            return 0


def _too_large() -> str:
    megabytes = MAX_ARCHIVE_BYTES // 1_000_000
    return f"The package is larger than {megabytes} MB; take out what the model does not read."
