"""Who the user is and which server they use: `~/.prpmrc` below the environment.

The file is the package manager's own (JSON); keys that are not known here stay as they are. A `.prpmrc` in
the working folder may come with somebody else's repository, so nothing in it is used: it could send the token
elsewhere.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from cli.errors import InvalidUserConfig
from evals.models import Secret

DEFAULT_REGISTRY_URL = "https://registry.prpm.dev"
DEFAULT_LOCAL_URL = "http://localhost:4000"
FILE_NAME = ".prpmrc"


class UserConfig(Struct, frozen=True, kw_only=True):
    """What the command knows before it asks anybody. `notes` are lines that the user should see."""

    registry_url: str  # no slash at its end
    token: Secret | None
    username: str | None
    local_url: str
    local_key: Secret | None
    cache_folder: Path  # ours, may be missing
    notes: tuple[str, ...] = ()

    @property
    def web_url(self) -> str:
        """Where people's pages are: beside the API, but for the public registry."""
        return "https://prpm.dev" if self.registry_url == DEFAULT_REGISTRY_URL else self.registry_url


def read_config(environ: Mapping[str, str], *, home: Path, folder: Path) -> UserConfig:
    """The settings that hold now. Raises InvalidUserConfig if the file or an address cannot be used."""
    stored = read_file(home / FILE_NAME)
    registry = environ.get("PRPM_REGISTRY_URL") or _text(stored, "registryUrl") or DEFAULT_REGISTRY_URL
    registry_url = checked_url(registry, name="the registry's address")
    token = checked_token(environ.get("PRPM_TOKEN") or _text(stored, "token") or "")
    local_key = checked_token(environ.get("PRPM_LOCAL_KEY") or "")
    return UserConfig(
        registry_url=registry_url,
        token=token,
        username=_text(stored, "username"),
        local_url=checked_url(environ.get("PRPM_LOCAL_URL") or DEFAULT_LOCAL_URL, name="PRPM_LOCAL_URL"),
        local_key=local_key,
        cache_folder=Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "prpm-testing",
        notes=(
            *_folder_notes(folder, home=home, stored=stored),
            *_plain_http_notes(registry_url, token=token),
        ),
    )


def read_file(path: Path) -> dict[str, Any]:
    """The file's keys; empty if there is none. Raises InvalidUserConfig if it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InvalidUserConfig(f"~/{path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise InvalidUserConfig(
            f"~/{path.name} is not valid JSON{where}. Correct it, or delete it and run `prpm login`."
        ) from error
    if not isinstance(found, dict):
        raise InvalidUserConfig(f"~/{path.name} must hold a JSON object. Delete it and run `prpm login`.")
    return found


def store_login(home: Path, *, registry_url: str, token: Secret, who: Mapping[str, str]) -> None:
    """The token is kept with the address it is for; `who` (username, userId, email) replaces the old one."""
    stored = read_file(home / FILE_NAME)
    write_file(home / FILE_NAME, {**stored, "registryUrl": registry_url, "token": token.reveal(), **who})


def forget_login(home: Path) -> bool:
    """The file holds no token and no name any more. False if it held no token; safe to call twice."""
    stored = read_file(home / FILE_NAME)
    if "token" not in stored:
        return False
    kept = {key: value for key, value in stored.items() if key not in {"token", "username", "userId", "email"}}
    write_file(home / FILE_NAME, kept)
    return True


def write_file(path: Path, content: Mapping[str, Any]) -> None:
    """The file has this content and mode 0600, or is untouched. A symlink stays. Raises InvalidUserConfig."""
    target = path.resolve()
    try:
        # mkstemp makes the file 0600, so that the token is never readable for others, not even for a moment.
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise InvalidUserConfig(f"~/{path.name} cannot be written: {error.strerror}.") from error


def checked_url(text: str, *, name: str) -> str:
    """The address, no slash at its end. Raises InvalidUserConfig unless it is http(s) with a host alone."""
    address = text.strip()
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or "@" in address or "?" in address or "#" in address or not address.isprintable() or " " in address:
        raise InvalidUserConfig(f"{name} must be an address such as https://registry.example.org, not {text!r}.")
    return address.rstrip("/")


def checked_token(text: str) -> Secret | None:
    """The token; None for an empty text. Raises InvalidUserConfig if it cannot stand in a header."""
    token = text.strip()
    if not token:
        return None
    if not (token.isascii() and token.isprintable()) or " " in token or len(token) > 8192:
        raise InvalidUserConfig("The token holds characters that no token has. Copy it again, or run `prpm login`.")
    return Secret(token)


def is_loopback(url: str) -> bool:
    """Whether the address can only be this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _text(stored: Mapping[str, Any], key: str) -> str | None:
    value = stored.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidUserConfig(f"~/{FILE_NAME}: `{key}` must be a text. Correct it, or run `prpm login`.")
    return value


def _folder_notes(folder: Path, *, home: Path, stored: Mapping[str, Any]) -> tuple[str, ...]:
    path = folder / FILE_NAME
    if not path.is_file() or path.resolve() == (home / FILE_NAME).resolve():
        return ()
    try:
        found = read_file(path)
    except InvalidUserConfig:
        found = {}
    ignored = [key for key in ("registryUrl", "token") if key in found and found[key] != stored.get(key)]
    if not ignored:
        return ()
    note = (
        f"⚠️  {' and '.join(ignored)} in this folder's {FILE_NAME} ignored: a folder may not say where "
        "your token goes. Set PRPM_REGISTRY_URL to use another server."
    )
    return (note,)


def _plain_http_notes(registry_url: str, *, token: Secret | None) -> tuple[str, ...]:
    if token is None or urlsplit(registry_url).scheme == "https" or is_loopback(registry_url):
        return ()
    return (f"⚠️  {registry_url} is not encrypted: everybody on the way can read your token. Use https.",)
