"""Sources of deliveries: a file each, pure. It verifies raw bytes, names the delivery, and says what it means.

To add one, write `server/webhooks/NAME.py` that registers a `Source` in `SOURCES`. Its address is `/webhooks/NAME`, its
secrets are the settings that it names. Nothing else is edited.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from evals.plugins import Registry
from server.domain.events import ChangeProposed, Meaning
from server.domain.moments import moment as moment

Payload = TypeVar("Payload")

MAX_NAME: Final = 255  # characters of a delivery's id, and of an event's name

# Whoever knows a webhook's secret signs what they like. What no forge would say is no payload, so that it ends at once,
# and neither a number that is too large for the database nor a name with `..` goes any further.
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
ChangeNumber = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Commit = Annotated[str, Meta(pattern=r"^(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")]
Path = Annotated[str, Meta(pattern=r"^(?=.{3,255}\Z)(?!\.\.?/)[\w.-]+(?:/(?!\.\.?(?:/|\Z))[\w.-]+)+\Z")]
Ref = Annotated[str, Meta(pattern=r"^[^\x00-\x20\x7f-\x9f]*\Z", max_length=500)]
Words = Annotated[str, Meta(pattern=r"^[^\x00]*\Z", max_length=255)]


class Delivery(Struct, frozen=True):
    """One POST as it came. Names of headers are in lower case; one that came twice has both values."""

    headers: Mapping[str, tuple[str, ...]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The header's value. None without one, and with several: no forge sends two, so nothing may rest on either."""
        values = self.headers.get(name, ())
        return values[0] if len(values) == 1 else None


class Named(Struct, frozen=True):
    """What a delivery calls itself. GitHub's signature does not cover it, so it is a hint and no proof."""

    id: str
    event: str


class InvalidDelivery(Exception):
    """Signed, but not what the forge's deliveries look like; `str()` is a sentence that quotes nothing of it."""


Proof = Literal["signature", "token"]
Secrets = Mapping[str, tuple[bytes, ...]]


def plain_secret(setting: str, random: bytes) -> str:
    """Text for forges that take any."""
    return base64.urlsafe_b64encode(random).decode().rstrip("=")


class Written(Struct, frozen=True):
    """An event as the forge would have delivered it."""

    event: str
    body: bytes


class Source(Struct, frozen=True, kw_only=True):
    """How the deliveries of one forge are read.

    `secrets` are names of settings (without `PRPM_`), each a list with commas, for rotation.
    `is_authentic(delivery, secrets, now)`: `now` is Unix time in seconds. Where several kinds of proof have a secret,
    all that the sender may leave out are ignored: there is no way down to a weaker one.
    `read(event, body)` is called for authentic deliveries, later. It raises InvalidDelivery.
    `about(body)` is for authentic deliveries, too: whose rate they count against, such as an installation or a project.
    `proofs`: for webhooks with a secret of their own, which of the secrets is for which kind of proof; "signature" is
    the one to have. `make_secret(setting, random)` makes one of 32 random bytes. `events` and `content_type`: what
    to choose at the forge, "" where it does not ask; `secret_fields`: what it calls the field of each proof's secret.
    `write` is `read` the other way round, for what the forge did not deliver: None where nothing is looked for.
    """

    secrets: tuple[str, ...]
    is_authentic: Callable[[Delivery, Secrets, float], bool]
    identify: Callable[[Delivery], Named]
    read: Callable[[str, bytes], Meaning]
    about: Callable[[bytes], str] = lambda body: ""
    proofs: Mapping[Proof, str] = {}
    make_secret: Callable[[str, bytes], str] = plain_secret
    events: tuple[str, ...] = ()
    content_type: str = ""
    secret_fields: Mapping[Proof, str] = {}
    write: Callable[[ChangeProposed], Written] | None = None


SOURCES: Registry[Source] = Registry("server.webhooks")


def decode(body: bytes, kind: type[Payload]) -> Payload:
    """The body as far as `kind` wants it. Of a key that stands there twice the last one counts, here and everywhere.

    Raises InvalidDelivery.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:  # names a path and types, never a value
        raise InvalidDelivery(f"The payload is not what this event has: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidDelivery("The payload is not valid JSON.") from None
    except RecursionError:
        raise InvalidDelivery("The payload is nested too deeply.") from None


def peek(body: bytes, kind: type[Payload]) -> Payload | None:
    """The body as far as `kind` wants it, None for one that is not so: whoever reads it later says what is wrong."""
    try:
        return decode(body, kind)
    except InvalidDelivery:
        return None
