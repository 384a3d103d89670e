"""Who vouches for workflows: one file an issuer of tokens that CI services sign. To add one, put a file here.

It defines `kind`, an IssuerKind: where the issuer's keys are, and how its claims are read. It opens no connection and
decides nothing: server/services/keyless.py verifies the token before its claims are read, and judges after.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from server.domain.errors import NotAuthenticated


class Workflow(Struct, frozen=True, kw_only=True):
    """What a verified token says about the workflow that shows it."""

    repository_id: int
    owner_id: int
    repository: str  # owner/name: for people, as names change hands
    event: str
    file: str | None  # the workflow's, within the repository; with its repository before it when it is another's
    runs_for_fork: bool  # the code that runs is another repository's
    ref: str  # the branch by its name alone, or what else it runs for, as the forge writes it


class IssuerKind(Struct, frozen=True, kw_only=True):
    """One CI service. `risky_events` run with the repository's rights on what outsiders wrote."""

    name: str
    forge: str  # as in a job's change
    default_issuer: str
    keys_path: str  # below the issuer
    risky_events: frozenset[str]
    read: Callable[[Mapping[str, Any]], Workflow]  # raises NotAuthenticated
    # The API of the forge whose workflows the issuer vouches for, as both count repositories by the same numbers; None
    # where the issuer's address does not tell.
    api_url: Callable[[str], str | None]

    def keys_url(self, issuer: str) -> str:
        """Where the issuer's public keys are. Never from the token, nor from anything that it names."""
        return issuer.rstrip("/") + self.keys_path


def find_kinds() -> dict[str, IssuerKind]:
    """Every kind by its name."""
    modules = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    kinds = [module.kind for module in modules if hasattr(module, "kind")]
    return {kind.name: kind for kind in kinds}


def number(claims: Mapping[str, Any], name: str) -> int:
    """A forge's id, which claims hold as text. Raises NotAuthenticated."""
    value = claims.get(name)
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 2**63:
        raise unreadable(name)
    return int(text[:20])


def text(claims: Mapping[str, Any], name: str) -> str:
    """A short printable text. Raises NotAuthenticated."""
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
        raise unreadable(name)
    return value


def unreadable(name: str) -> NotAuthenticated:
    """A claim that each token of this kind has is not there, or is nonsense."""
    return NotAuthenticated(f"The token's claim `{name}` cannot be used.", code="invalid_oidc_token")


def file_in(reference: str, *, separator: str, repository: str) -> str:
    """`owner/name/path@ref` as its path, or with the repository before it when that is another one."""
    place = reference.rpartition("@")[0] or reference
    prefix = repository + separator
    return place[len(prefix) :] if place.lower().startswith(prefix.lower()) else place
