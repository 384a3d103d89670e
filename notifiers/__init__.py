"""The family of notifiers: each turns the outcome of a job into HTTP requests. To add one, put a file here.

    @notifier("mattermost", example=EXAMPLE, from_url=target_from_url)
    def tell(notice: Notice, target: MattermostTarget) -> Messages:
        \"\"\"Mattermost: a message in a channel.\"\"\"
        if not notice.is_news(target.when):
            return Receipt.quiet("the state is as it was")
        response = yield Request(...)
        require_success(response, doing="post the message")
        return Receipt(did=("posted a message",))

One that can show what has not ended yet has a generator for that (`stand=`, of `Standing`).
One whose target is made of an address alone may have a second generator, for what is no job (`say=`), and its target
the fields `when`, `secret` and `message_id`: the service fills those that are there.

A notifier opens no connection and knows no clock: it yields requests and receives responses. `notifiers._urllib`
drives it with the standard library, the service with its own client. Nothing else is edited; the contract
(`tests/contracts/test_notifiers.py`) finds the new file by itself.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from notifiers._announcement import Announcement
from notifiers._http import (
    CannotNotify,
    Messages,
    NoResponse,
    Receipt,
    Request,
    Response,
    require_success,
)
from notifiers._notice import Baseline, Mode, Notice
from notifiers._outcome import InvalidOutcome, Outcome, read_outcome
from notifiers._standing import Standing
from notifiers._urls import InvalidTarget, TargetUrl, checked_url

__all__ = [
    "NOTIFIERS",
    "Announcement",
    "Baseline",
    "CannotNotify",
    "InvalidOutcome",
    "InvalidTarget",
    "Messages",
    "Mode",
    "NoResponse",
    "Notice",
    "Notifier",
    "Outcome",
    "Receipt",
    "Request",
    "Response",
    "Standing",
    "TargetUrl",
    "checked_url",
    "notifier",
    "read_outcome",
    "require_success",
    "target_for",
]


@dataclass(frozen=True)
class Notifier:
    """One entry of the family.

    `tell` takes the notice and a target of the notifier's own. `from_url` makes that target of a web address and is
    None where an address alone is not enough (a forge needs a token, too). `say` takes an announcement and the target,
    `stand` how a check stands that has no outcome.
    `example` is a target that leads nowhere and is told everything, for `python -m notifiers`.
    """

    name: str
    summary: str  # first line of the function's docstring
    tell: Callable[[Notice, Any], Messages]
    example: Any
    from_url: Callable[[TargetUrl], Any] | None = None
    say: Callable[[Announcement, Any], Messages] | None = None
    stand: Callable[[Standing, Any], Messages] | None = None


class _Family(Mapping[str, Notifier]):
    """Name -> notifier. The folder is imported at the first look."""

    def __init__(self) -> None:
        self._found: dict[str, Notifier] = {}
        self._is_loaded = False
        self._lock = threading.RLock()

    def register(self, entry: Notifier) -> None:
        """Make `entry` known. Raises ValueError if two files claim one name."""
        if entry.name in self._found:
            raise ValueError(f"two notifiers are named {entry.name!r}")
        self._found[entry.name] = entry

    def _load(self) -> dict[str, Notifier]:
        with self._lock:
            if not self._is_loaded:
                for module in pkgutil.iter_modules(__path__):
                    if not module.name.startswith("_"):
                        importlib.import_module(f"{__name__}.{module.name}")
                self._is_loaded = True
        return self._found

    def __getitem__(self, name: str) -> Notifier:
        return self._load()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._load()))

    def __len__(self) -> int:
        return len(self._load())


NOTIFIERS = _Family()

Tell = TypeVar("Tell", bound=Callable[[Notice, Any], Messages])


def notifier(
    name: str,
    *,
    example: object,
    from_url: Callable[[TargetUrl], Any] | None = None,
    say: Callable[[Announcement, Any], Messages] | None = None,
    stand: Callable[[Standing, Any], Messages] | None = None,
) -> Callable[[Tell], Tell]:
    """Register a generator function as the notifier `name`."""

    def register(tell: Tell) -> Tell:
        summary = (tell.__doc__ or "").strip().partition("\n")[0]
        NOTIFIERS.register(
            Notifier(name=name, summary=summary, tell=tell, example=example, from_url=from_url, say=say, stand=stand)
        )
        return tell

    return register


def target_for(kind: str, url: str, *, allowed_origins: frozenset[str] = frozenset()) -> Any:
    """The target that a line `kind: url` means. Raises InvalidTarget, with the kinds that there are.

    `allowed_origins` holds each `scheme://host:port` for which the rules about https and public hosts are lifted.
    """
    kinds = [name for name, entry in NOTIFIERS.items() if entry.from_url is not None]
    if kind not in kinds:
        raise InvalidTarget(f"There is no kind of message {kind[:40]!r}. Choose one of: {', '.join(kinds)}.")
    from_url = NOTIFIERS[kind].from_url
    assert from_url is not None, "kinds holds only those that have one"  # noqa: S101 -- for the type checker
    return from_url(checked_url(url, allowed_origins=allowed_origins))
