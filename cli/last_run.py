"""Which cases did not pass the last time, kept for each package in the user's cache folder, for `--failed`."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from cli.errors import InvalidUse
from cli.subject import Registered, Subject

if TYPE_CHECKING:
    from cli.answers import RowShown
    from cli.request import RunRequest

MAX_BYTES = 2**20
MOST_TITLES = 1000  # as many cases as a suite may have


class LastRun(Struct, frozen=True, kw_only=True):
    """What the file holds."""

    subject: str
    not_passed: tuple[str, ...]  # titles; of several models, a case is named once


class LastRuns:
    """The folder that holds a file for each package. What cannot be written there is not missed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def not_passed(self, request: RunRequest) -> tuple[str, ...]:
        """The titles of the last run's cases that did not pass. Raises InvalidUse if no run is known."""
        known = self._read(request)
        if known is None:
            raise InvalidUse("--failed needs an earlier run of this package from this machine. Run it once without.")
        return known.not_passed

    def remember(self, request: RunRequest, rows: Sequence[RowShown]) -> None:
        """The rows' cases are known as passed or not. A run of some cases leaves what is known of the others."""
        missed = _titles(row for row in rows if not row.passed)
        known = self._read(request)
        if request.cases and known is not None:
            run = {row.title for row in rows}
            missed = _titles_of([title for title in known.not_passed if title not in run], missed)
        self._write(request, LastRun(subject=subject_key(request), not_passed=missed[:MOST_TITLES]))

    def _read(self, request: RunRequest) -> LastRun | None:
        try:
            with self._path(request).open("rb") as file:
                return msgspec.json.decode(file.read(MAX_BYTES), type=LastRun)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def _write(self, request: RunRequest, last: LastRun) -> None:
        path = self._path(request)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(last))
            Path(name).replace(path)

    def _path(self, request: RunRequest) -> Path:
        return self._folder / f"{hashlib.sha256(subject_key(request).encode()).hexdigest()[:32]}.json"


def subject_key(request: RunRequest) -> str:
    """What a run is about, whatever its version: a package's name or a path, and the suite if it is another one."""
    about = request.subject.name if isinstance(request.subject, Registered) else _absolute(request.subject)
    return f"{about} {request.suite_file.absolute()}" if request.suite_file is not None else about


def _absolute(subject: Subject) -> str:
    if isinstance(subject, Registered):
        return ""
    path = str(subject.path.absolute())
    return f"{path} {subject.package}" if subject.package is not None else path


def _titles(rows: Iterable[RowShown]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(row.title for row in rows))


def _titles_of(*groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(title for group in groups for title in group))
