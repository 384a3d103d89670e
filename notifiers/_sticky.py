"""One comment per pull request and suite: found by marker and author, edited in place, whatever else is there.

The marker is the comment's first line and holds a code that only the service can make, so a model's answer, a quoted
comment or a guess is never taken for ours; the author is compared, too, so a copy of the line is not either. Two jobs
that create at once see each other when they look again, and both keep the oldest comment.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Protocol

from notifiers._http import CannotNotify, Request, Response

# A refused edit or a second creation makes us look again; more often than this nothing but a fault would.
LOOKS = 5
_CODE = re.compile(r"[0-9a-f]{32,128}")
_ACCEPTED = re.compile(r" accepted=(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) -->")


@dataclass(frozen=True, kw_only=True)
class Comment:
    """What we need to know of a comment that is there."""

    id: int
    author: str
    body: str
    url: str | None = None


class Thread(Protocol):
    """Where comments stand. Each method is a step of a notifier; each raises CannotNotify."""

    def comments(self) -> Generator[Request, Response, Sequence[Comment]]: ...

    def create(self, body: str) -> Generator[Request, Response, Comment]: ...

    def edit(self, comment: Comment, body: str) -> Generator[Request, Response, None]: ...

    def remove(self, comment: Comment) -> Generator[Request, Response, None]: ...


@dataclass(frozen=True, kw_only=True)
class Kept:
    """What `keep_one` did, and the comment that stands now."""

    did: tuple[str, ...]
    comment: Comment | None


def first_line(mac: str, accepted_at: datetime) -> str:
    """The marker line. `mac` is an HMAC in hex over what the comment is about; raises ValueError for anything else.

    `accepted_at`, with its zone, says which of two comments is the newer.
    """
    if not _CODE.fullmatch(mac):
        raise ValueError("the marker has to be an HMAC of 32 to 128 lower-case hex digits")
    accepted = accepted_at.astimezone(timezone.utc)
    return f"{_beginning(mac)} accepted={accepted.isoformat(timespec='microseconds').replace('+00:00', 'Z')} -->"


def _beginning(mac: str) -> str:
    return f"<!-- prpm-testing:v1 mac={mac}"


def keep_one(
    thread: Thread, *, author: str, mac: str, body: str, may_create: bool
) -> Generator[Request, Response, Kept]:
    """Afterwards at most one comment of ours is there, and none is older than this body. Safe to repeat.

    `body` begins with `first_line`. A comment of a job that was accepted later stays as it is.
    """
    did: list[str] = []
    new: Comment | None = None
    for _ in range(LOOKS):
        found = [comment for comment in (yield from thread.comments()) if is_ours(comment, author=author, mac=mac)]
        # A list may be a moment old and lack what was just made; creating it again would be the second one.
        ours = {comment.id: comment for comment in ([new] if new else []) + found}
        if not ours and not may_create:
            return Kept(did=(), comment=None)
        if not ours:
            new = yield from _create(thread, body, was_unclear="posted the comment" in did)
            did.append("posted the comment")
            continue  # look again: another job may have created one meanwhile
        kept = ours[min(ours)]
        newest = max([body, *(comment.body for comment in ours.values())], key=_accepted)
        if same_text(kept.body, newest):
            pass
        elif (yield from _edit(thread, kept, newest)):
            did.append("edited the comment")
        else:
            new = None
            continue  # it was removed since we looked
        for extra in sorted(set(ours) - {kept.id}):
            yield from _remove(thread, ours[extra])
            did.append("removed a second comment")
        return Kept(did=tuple(did), comment=kept)
    raise CannotNotify("We could not keep one comment: it changes again and again.", retryable=True)


def is_ours(comment: Comment, *, author: str, mac: str) -> bool:
    """Whether we wrote it, and about this."""
    return comment.author.lower() == author.lower() and comment.body.startswith(f"{_beginning(mac)} ")


def same_text(one: str, other: str) -> bool:
    """Forges store line ends and the end of a text in their own way."""
    return one.replace("\r\n", "\n").strip() == other.replace("\r\n", "\n").strip()


def _accepted(body: str) -> str:
    """When the body's job was accepted, in a form that sorts; "" for one that does not say it."""
    found = _ACCEPTED.search(body.partition("\n")[0])
    return found[1] if found else ""


def made(comment: Comment | None) -> Comment:
    """The comment that a platform says it made. Raises CannotNotify: it is made, and must not be made again now."""
    if comment is None:
        raise CannotNotify("The answer did not name the comment. It is looked for later.", retryable=True)
    return comment


def _create(thread: Thread, body: str, *, was_unclear: bool) -> Generator[Request, Response, Comment | None]:
    """The comment that was made; None if that is unclear, once. Whether it is there, the next look shows."""
    try:
        return (yield from thread.create(body))
    except CannotNotify as error:
        if was_unclear or not error.is_unclear:
            raise
        return None


def _edit(thread: Thread, comment: Comment, body: str) -> Generator[Request, Response, bool]:
    """Whether the comment was there to be edited."""
    try:
        yield from thread.edit(comment, body)
    except CannotNotify as error:
        if not error.gone:
            raise
        return False
    return True


def _remove(thread: Thread, comment: Comment) -> Generator[Request, Response, None]:
    try:
        yield from thread.remove(comment)
    except CannotNotify as error:
        if not error.gone:
            raise
