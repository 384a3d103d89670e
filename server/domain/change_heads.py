"""What has one head at a time: a pull or merge request, a branch, a tag."""

from __future__ import annotations

from typing import NamedTuple

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


def pull_line(forge: str, repository_id: int, number: int) -> ChangeLine:
    return ChangeLine(forge, repository_id, f"{PULL}{number}")


def ref_line(forge: str, repository_id: int, ref: str) -> ChangeLine:
    return ChangeLine(forge, repository_id, f"{REF}{ref}")
