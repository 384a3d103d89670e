"""What the installation's secret key is for: sealed addresses and secrets, and codes that only this service can make.

`PRPM_SECRET_KEY` may name several keys, separated by commas: the first seals, each opens. Codes in comments are made
with the last, so that they stay the same while a key is being replaced.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from uuid import UUID

import msgspec
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct

from evals.models import Secret
from server.domain.changes import Change

# One purpose, one key: what is known of one says nothing of another.
SEALING = b"prpm-testing: targets of notifications"
EQUALITY = b"prpm-testing: equal addresses"
MARKERS = b"prpm-testing: comment markers"
SECRETS = b"prpm-testing: secrets of webhooks and Apps"


class CannotOpen(Exception):
    """What is stored was sealed with a key that is not among PRPM_SECRET_KEY any more, or for another row."""


class SealedAddress(Struct, frozen=True, kw_only=True):
    """What leads to a target. `owner` binds it to its row, so that no row shows another's."""

    owner: str
    url: str
    secret: str = ""


class SealedSecrets(Struct, frozen=True, kw_only=True):
    """Secrets by name. `owner` binds them to their row."""

    owner: str
    secrets: dict[str, str]


class Sealer:
    """Seals, opens, and makes codes. Its repr shows no key."""

    def __init__(self, keys: Secret) -> None:
        parts = [part.strip().encode() for part in keys.reveal().split(",") if part.strip()]
        if not parts:
            raise ValueError("PRPM_SECRET_KEY holds no key")
        self._fernet = _fernet(parts, purpose=SEALING)
        self._secrets = _fernet(parts, purpose=SECRETS)
        self._equality = _derive(parts[0], purpose=EQUALITY)
        self._markers = _derive(parts[-1], purpose=MARKERS)

    def seal(self, target_id: UUID, *, url: str, secret: str = "") -> bytes:
        """Encrypted and authenticated with the first key."""
        address = SealedAddress(owner=str(target_id), url=url, secret=secret)
        return self._fernet.encrypt(msgspec.json.encode(address))

    def open(self, target_id: UUID, sealed: bytes) -> SealedAddress:
        """What was sealed for this target. Raises CannotOpen."""
        try:
            address = msgspec.json.decode(self._fernet.decrypt(sealed), type=SealedAddress)
        except (InvalidToken, msgspec.DecodeError):
            raise CannotOpen("its key is not among PRPM_SECRET_KEY") from None
        if address.owner != str(target_id):
            raise CannotOpen("it was sealed for another target")
        return address

    def seal_secrets(self, owner: str, secrets: Mapping[str, str]) -> bytes:
        """Encrypted and authenticated with the first key, for the row that `owner` names."""
        return self._secrets.encrypt(msgspec.json.encode(SealedSecrets(owner=owner, secrets=dict(secrets))))

    def open_secrets(self, owner: str, sealed: bytes) -> dict[str, str]:
        """What was sealed for this row. Raises CannotOpen."""
        try:
            found = msgspec.json.decode(self._secrets.decrypt(sealed), type=SealedSecrets)
        except (InvalidToken, msgspec.DecodeError):
            raise CannotOpen("its key is not among PRPM_SECRET_KEY") from None
        if found.owner != owner:
            raise CannotOpen("it was sealed for another row")
        return found.secrets

    def address_mac(self, kind: str, url: str) -> bytes:
        """Equal for equal addresses under the first key."""
        return hmac.digest(self._equality, msgspec.json.encode([kind, url]), hashlib.sha256)

    def marker(self, change: Change, *, package: str, suite_name: str) -> str:
        """64 hex digits that name the comment of one pull request (or ref), package and suite."""
        line = change.pull_request if isinstance(change.pull_request, int) else change.ref
        named = msgspec.json.encode([change.forge, change.repository_id, line, package, suite_name])
        return hmac.new(self._markers, named, hashlib.sha256).hexdigest()


def sealer_of(keys: Secret | None) -> Sealer | None:
    """None where no key is set: nothing secret can be kept then."""
    return Sealer(keys) if keys is not None else None


def _fernet(keys: list[bytes], *, purpose: bytes) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derive(key, purpose=purpose))) for key in keys])


def _derive(key: bytes, *, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(key)
