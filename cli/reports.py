"""`--output FILE`: which format each file gets, known before anything is run, and writing it whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from cli.errors import InvalidUse
from cli.signing_key import own_key
from cli.terminal import Terminal

if TYPE_CHECKING:
    from evals.reports import Report


class ReportFile(Struct, frozen=True):
    """A file that is to be written, and how."""

    path: Path
    report: Report


def find_reports(paths: Sequence[Path]) -> tuple[ReportFile, ...]:
    """The formats by extension. Raises UnknownReport, or InvalidUse for a folder that cannot be written to."""
    if not paths:
        return ()
    from evals.reports import find_report

    for path in paths:
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise InvalidUse(f"{path} cannot be written: the folder {path.parent} is not there or not yours.")
    return tuple(ReportFile(path, find_report(path.name)) for path in paths)


def write_reports(files: Sequence[ReportFile], body: bytes, *, terminal: Terminal, key: bytes | None = None) -> None:
    """Every file is written, and named on the terminal. `body` is the outcome's JSON; with a key it is signed.

    Raises InvalidUse if a file cannot be written; the others are, then.
    """
    if not files:
        return
    from evals.reports import Reported, read_reported
    from evals.signing import FIELD, sign

    reported = read_reported(body)
    if FIELD not in reported.document:
        reported = Reported(reported.outcome, sign(reported.document, own_key()))
    for file in files:
        _write(file.path, file.report.render(reported))
        terminal.note(f"📄 {file.report.name} report: {file.path}")


def _write(path: Path, content: bytes) -> None:
    """Beside its place first: who reads it sees the old file or the new one."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidUse(f"{path} cannot be written: {error.strerror}.") from error


def _umask() -> int:
    # There is no other way to ask; the command has one thread here.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
