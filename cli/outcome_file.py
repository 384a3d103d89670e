"""Outcomes on disk: read with a size limit and an error that says what to do."""

from __future__ import annotations

from pathlib import Path

from cli.errors import InvalidUse

MAX_BYTES = 256 * 2**20


def read_outcome_file(path: Path) -> bytes:
    """The file's bytes. Raises InvalidUse if it cannot be read or is larger than any outcome."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidUse(f"{path} is larger than {MAX_BYTES // 2**20} MB: this is no outcome of `prpm test`.")
        return path.read_bytes()
    except OSError as error:
        raise InvalidUse(f"{path} cannot be read: {error.strerror}.") from error
