"""The key that signs this user's outcomes: made at its first use, kept beside `~/.prpmrc`, readable by nobody else."""

from __future__ import annotations

import os
from pathlib import Path

from cli.errors import InvalidUserConfig

FILE_NAME = ".prpm-signing-key"


def own_key() -> bytes:
    """32 bytes. Raises InvalidUserConfig if the file holds something else or cannot be written."""
    path = Path.home() / FILE_NAME
    try:
        return _read(path)
    except FileNotFoundError:
        return _create(path)


def own_public_key() -> str | None:
    """The public key of what `own_key` gives, 64 hex digits; None if there is no key yet."""
    from evals.signing import public_key

    try:
        return public_key(_read(Path.home() / FILE_NAME))
    except FileNotFoundError:
        return None


def _read(path: Path) -> bytes:
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        key = b""
    except FileNotFoundError:
        raise
    except OSError as error:
        raise InvalidUserConfig(f"{path} cannot be read: {error.strerror}.") from error
    if len(key) != 32:
        raise InvalidUserConfig(f"{path} holds no signing key. Move it away, and a new one is made.")
    return key


def _create(path: Path) -> bytes:
    from evals.signing import new_private_key

    key = new_private_key()
    try:
        # O_EXCL: of two commands that start at once, one makes the key and the other reads it.
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise InvalidUserConfig(f"{path} cannot be written: {error.strerror}.") from error
    with os.fdopen(handle, "w") as file:
        file.write(key.hex() + "\n")
    return key
