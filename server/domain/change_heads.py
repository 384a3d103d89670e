"""What has one head at a time: a pull or merge request, a branch, a tag."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET

from server.domain.changes import Change

PULL, REF = "pull:", "ref:"


class ChangeLine(NamedTuple):
    """`line` is `pull:12`, or `ref:` and a branch, or `ref:refs/tags/` and a tag."""

    forge: str
    repository_id: int
    line: str

    @property
    def pull_request(self) -> int | None:
        """Its number, if it is one."""
        return int(self.line.removeprefix(PULL)) if self.line.startswith(PULL) else None

    @property
    def ref(self) -> str:
        """The branch by its name, or the tag with `refs/tags/`; "" for a pull request."""
        return self.line.removeprefix(REF) if self.line.startswith(REF) else ""


class Gone(NamedTuple):
    """What nobody waits for any more: of a pull request all that is for another branch than `base_ref`; without one a
    ref's head."""

    forge: str
    repository_id: int
    pull_request: int | None = None
    base_ref: str = ""
    ref: str = ""
    head_sha: str = ""

    def has(self, change: Change) -> bool:
        """Whether the change is part of it."""
        if (change.forge, change.repository_id) != (self.forge, self.repository_id):
            return False
        if self.pull_request is None:
            is_ref = change.pull_request is UNSET and change.ref == self.ref
            return is_ref and change.head_sha == self.head_sha
        is_elsewhere = isinstance(change.base_ref, str) and change.base_ref != self.base_ref
        return change.pull_request == self.pull_request and is_elsewhere


def pull_line(forge: str, repository_id: int, number: int) -> ChangeLine:
    return ChangeLine(forge, repository_id, f"{PULL}{number}")


def ref_line(forge: str, repository_id: int, ref: str) -> ChangeLine:
    return ChangeLine(forge, repository_id, f"{REF}{ref}")
