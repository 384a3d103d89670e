"""A folder of which the paths are known and the contents are fetched as they are needed: a commit at a forge.

The rules of what belongs to a package are those of working folders (evals/folders.py). They are tried with what is at
hand; whatever they would read first raises NeedsContents, and they are tried again once it was fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from evals.archives import MAX_ARCHIVE_BYTES, MAX_FILES, quoted_path, require_safe_path
from evals.errors import InvalidPackage
from evals.folders import NEVER_PACKED, collect

LFS_POINTER: Final = (
    b"version https://git-lfs.github.com/spec/v1\n"  # https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
)
MOST_POINTER_BYTES: Final = 1024


class NeedsContents(Exception):
    """These paths have to be fetched before the next try."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        super().__init__()
        self.paths = paths


class ListedFolder:
    """What a folder of a commit holds. `kinds` has each path's: "file", "link" or "submodule"."""

    def __init__(self, kinds: Mapping[str, str], contents: Mapping[str, bytes], *, label: str) -> None:
        self._kinds = kinds
        self._contents = contents
        self.label = label

    def collect(self) -> dict[str, bytes]:
        """Path -> content of what belongs to the package. Raises NeedsContents and InvalidPackage."""
        return collect(self)

    def has(self, path: str) -> bool:
        return path in self._kinds or self.is_folder(path)

    def is_folder(self, path: str) -> bool:
        return any(known.startswith(f"{path}/") for known in self._kinds)

    def is_file(self, path: str) -> bool:
        return self._kinds.get(path) == "file"

    def names(self) -> list[str]:
        return sorted({path.split("/", 1)[0] for path in self._kinds})

    def walk(self, below: str) -> list[str]:
        start = f"{below}/" if below else ""
        return sorted(
            path
            for path, kind in self._kinds.items()
            if kind == "file" and path.startswith(start) and not NEVER_PACKED & set(path.split("/")[:-1])
        )

    def read(self, path: str) -> bytes:
        self._require_file(path)
        if path not in self._contents:
            raise NeedsContents((path,))
        content = self._contents[path]
        if len(content) <= MOST_POINTER_BYTES and content.startswith(LFS_POINTER):
            raise InvalidPackage(
                f"{quoted_path(path)} is kept in Git LFS, so the repository holds a pointer and no text. Keep what "
                "models read in the repository itself."
            )
        return content

    def read_all(self, paths: tuple[str, ...]) -> dict[str, bytes]:
        wanted = sorted(set(paths))
        if len(wanted) > MAX_FILES:
            raise InvalidPackage(f"The package has more than {MAX_FILES:,} files.")
        for path in wanted:
            self._require_file(path)
        if missing := tuple(path for path in wanted if path not in self._contents):
            raise NeedsContents(missing)
        files = {path: self.read(path) for path in wanted}
        if sum(map(len, files.values())) > MAX_ARCHIVE_BYTES:
            megabytes = MAX_ARCHIVE_BYTES // 1_000_000
            raise InvalidPackage(f"The package is larger than {megabytes} MB; take out what the model does not read.")
        return files

    def _require_file(self, path: str) -> None:
        require_safe_path(path)
        parts = path.split("/")
        for length in range(1, len(parts) + 1):
            part = "/".join(parts[:length])
            if self._kinds.get(part) == "link":
                raise InvalidPackage(
                    f"{quoted_path(part)} is a symbolic link, which packages do not follow; put the file itself there."
                )
            if self._kinds.get(part) == "submodule":
                raise InvalidPackage(
                    f"{quoted_path(part)} is a submodule, which is another repository; put the files themselves there."
                )
        if self._kinds.get(path) != "file":
            raise InvalidPackage(f"{quoted_path(path)} is no regular file.")


def package_folders(paths: Mapping[str, str], signs: frozenset[str]) -> tuple[str, ...]:
    """The folders that hold one of the signs of a package (`prpm.json`, a suite's place), "" for the root; sorted."""
    found = set()
    for path in paths:
        if NEVER_PACKED & set(path.split("/")):
            continue
        for sign in signs:
            if path == sign or path.endswith(f"/{sign}"):
                found.add(path[: -len(sign)].rstrip("/"))
    return tuple(sorted(found))
