"""What is known of a commit, of which the check `prpm` says the sum: each change that has it as its head, and the
packages that this touches. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct

from server.domain.changes import Change
from server.domain.reporting import State


class Said(Struct, frozen=True, kw_only=True):
    """What is said where there is no job. Plain text, that may be other people's."""

    state: State
    title: str
    summary: str = ""


class TouchedPart(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A suite of a package that a change touches: the job that the service itself submitted for it, or what is said.

    Only that job counts: others of the same commit may have been sent by anybody's workflow, with rules of its own.
    """

    package: str
    suite_name: str
    at: datetime  # when this was found
    job_id: UUID | None = None
    said: Said | None = None  # with neither of them a job is to come
    is_untested: bool = False  # there would have been something to test
    removed_tests: int = 0  # that went with the package


class HeadOfChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A commit as the head of one change to one branch.

    `said` is of the change as a whole. `is_run`: its packages were found, and are `parts`, by `part_key`. `left`: why
    nobody waits for it any more; what was found counts all the same.
    `commit_status`: its rules want a commit status beside the check.
    """

    change: Change
    at: datetime  # when this was found
    is_run: bool = False
    said: Said | None = None
    nothing: str = ""  # why there are no parts
    parts: dict[str, TouchedPart] = {}
    left: str = ""
    commit_status: bool = False


class Head(Struct, frozen=True):
    """A commit, by the changes that it is a head of: one that lets pass here may not in another."""

    changes: dict[str, HeadOfChange] = {}

    @property
    def has_status(self) -> bool:
        """Whether its sum is a commit status, too: only the default branch's rules say so, for all changes alike."""
        return any(one.commit_status for one in self.changes.values())


class PartJob(Struct, frozen=True, kw_only=True):
    """The job of a part, as it is now."""

    id: UUID
    status: str
    conclusion: str | None
    error_code: str | None
    started_at: datetime | None
    tests_passed: int | None
    total_tests: int | None


class HeadPart(Struct, frozen=True, kw_only=True):
    """One part of one change, named by their keys. `has_newer`: the change has a newer head."""

    change: str
    part: str
    has_newer: bool
    job: PartJob | None


def with_word(
    head: Head, change: Change, said: Said, *, at: datetime, commit_status: bool | None = None
) -> Head | None:
    """Something is said of the change as a whole; what was found in it stays. None: it was said before.

    `commit_status` None: as it is known, where its rules could not be read.
    """
    known = head.changes.get(change_key(change)) or HeadOfChange(change=change, at=at)
    has_status = known.commit_status if commit_status is None else commit_status
    if (known.said, known.commit_status, known.left) == (said, has_status, ""):
        return None
    new = msgspec.structs.replace(known, change=change, at=at, said=said, commit_status=has_status, left="")
    return _with(head, new)


def with_run(
    head: Head,
    change: Change,
    parts: Iterable[TouchedPart],
    *,
    said: Said | None,
    nothing: str,
    at: datetime,
    commit_status: bool = False,
) -> Head | None:
    """These are the packages that the change touches, whatever was found before. None: nothing is new."""
    known = head.changes.get(change_key(change))
    found = _parts(known, parts)
    made = HeadOfChange(
        change=change, at=at, is_run=True, said=said, nothing=nothing, parts=found, commit_status=commit_status
    )
    if known is not None and msgspec.structs.replace(known, change=change, at=at) == made:
        return None
    return _with(head, made)


def with_rerun(head: Head, change: Change, parts: Iterable[TouchedPart], *, at: datetime) -> Head | None:
    """Some of the change's packages were run again; of the others all stays. None: nothing is new, or was known.

    What blocks the change as a whole goes on to do so: some packages are not all of it.
    """
    known = head.changes.get(change_key(change))
    if known is None:
        return None
    found = {**known.parts, **_parts(known, parts)}
    if found == known.parts and not known.left:
        return None
    return _with(head, msgspec.structs.replace(known, at=at, parts=found, left=""))


def with_left(head: Head, is_left: Callable[[Change], bool], *, reason: str) -> Head | None:
    """Nobody waits for these changes any more: what has no verdict in them is no part of the sum. None: it was so."""
    left = {
        key: msgspec.structs.replace(one, left=reason)
        for key, one in head.changes.items()
        if not one.left and is_left(one.change)
    }
    return Head(changes={**head.changes, **left}) if left else None


def known_or(head: Head, change: Change, parts: Iterable[TouchedPart]) -> list[TouchedPart]:
    """These packages of the change, as they are known where they are."""
    known = head.changes.get(change_key(change))
    before: Mapping[str, TouchedPart] = known.parts if known is not None else {}
    return [before.get(part_key(part.package, part.suite_name), part) for part in parts]


def tested_or(head: Head, change: Change, parts: Sequence[TouchedPart], *, is_extra: bool) -> list[TouchedPart]:
    """These packages of the change. One that has a run by the repository's rules keeps it where the new one is no test,
    or (`is_extra`) one on models that somebody named: neither turns what failed into what may pass."""
    known = known_or(head, change, parts)
    return [
        before if before.job_id is not None and (is_extra or part.is_untested) else part
        for before, part in zip(known, parts, strict=True)
    ]


def change_key(change: Change) -> str:
    """Names a change among those of its head. A pull request that is for another branch is another one: each branch has
    rules of its own, and what passed by those of one may not by those of another."""
    line = f"pull:{change.pull_request}" if change.pull_request is not UNSET else f"ref:{change.ref}"
    return f"{line} {change.base_ref if change.base_ref is not UNSET else ''}"


def part_key(package: str, suite_name: str) -> str:
    """Names a part among those of its change."""
    return msgspec.json.encode([package, suite_name]).decode()


def _parts(known: HeadOfChange | None, parts: Iterable[TouchedPart]) -> dict[str, TouchedPart]:
    """What is found once more was found when it was found first."""
    before: Mapping[str, TouchedPart] = known.parts if known is not None else {}
    found = {part_key(part.package, part.suite_name): part for part in parts}
    return {key: before[key] if _is_same(before.get(key), part) else part for key, part in found.items()}


def _is_same(before: TouchedPart | None, part: TouchedPart) -> bool:
    return before is not None and msgspec.structs.replace(before, at=part.at) == part


def _with(head: Head, one: HeadOfChange) -> Head:
    return Head(changes={**head.changes, change_key(one.change): one})
