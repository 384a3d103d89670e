"""What the user wants tested: a folder, an archive file, or a package of the registry by its name."""

from __future__ import annotations

import re
from pathlib import Path

from msgspec import Struct

from cli.errors import InvalidUse

_NAME = re.compile(r"(?P<name>(?:@[a-z0-9-]+/)?[a-z0-9-]+)(?:@(?P<version>[0-9A-Za-z][0-9A-Za-z.+-]{0,99}))?")
_ARCHIVE_ENDINGS = (".tar.gz", ".tgz", ".gz")


class Registered(Struct, frozen=True):
    """A package of the registry; without a version, the newest."""

    name: str
    version: str | None = None


class Folder(Struct, frozen=True):
    """A working folder, published or not. `package`: which one, where it holds several."""

    path: Path
    package: str | None = None


class ArchiveFile(Struct, frozen=True):
    """A working folder as one .tar.gz file."""

    path: Path
    package: str | None = None


Subject = Registered | Folder | ArchiveFile


def find_subject(text: str, *, package: str | None = None) -> Subject:
    """What `text` means; `package` chooses one of a folder or archive, and is InvalidUse for a package by name."""
    subject = _find(text)
    if package is None:
        return subject
    if isinstance(subject, Registered):
        raise InvalidUse("--package chooses one of a folder's packages. A package by its name is one already.")
    return type(subject)(subject.path, package)


def _find(text: str) -> Subject:
    """What `text` means. Raises InvalidUse if it is neither a path that exists nor a package's name.

    `@author/name` is always a name. Anything else is a path if there is one, so `prpm test .` and
    `prpm test my-rules` do what they say in a working folder.
    """
    named = _NAME.fullmatch(text) if len(text) <= 315 else None
    if named and text.startswith("@"):
        return Registered(named["name"], named["version"])
    path = Path(text).expanduser()
    if _exists(path):
        return _on_disk(path)
    if named and len(named["name"]) <= 214:
        return Registered(named["name"], named["version"])
    if text.startswith((".", "/", "~")) or text.endswith(("/", *_ARCHIVE_ENDINGS)):
        raise InvalidUse(f"There is no folder or archive {text!r}.")
    raise InvalidUse(
        f"{text[:80]!r} is no package name and no folder.",
        details=("A name looks like @author/package or @author/package@1.2.0, in lower case.",),
    )


def _on_disk(path: Path) -> Subject:
    if path.is_dir():
        return Folder(path)
    if path.name.endswith(_ARCHIVE_ENDINGS):
        return ArchiveFile(path)
    raise InvalidUse(f"{str(path)!r} is neither a folder nor a .tar.gz archive. Name the package's folder.")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long for a path, or a NUL in it
        return False
