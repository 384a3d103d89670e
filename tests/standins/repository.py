"""A repository in memory, for stand-ins of forges: commits as folders, each on top of another."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    to: str


@dataclass(frozen=True)
class Submodule:
    """Another repository's commit."""

    sha: str = "5" * 40


Content = bytes | Link | Submodule


@dataclass
class Repository:
    """`commits` by sha: what each holds, and its parent."""

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)  # what each points to: a commit, or an annotated tag's object

    def commit(
        self, files: Mapping[str, Content | None], *, parent: str | None = None, branch: str | None = None
    ) -> str:
        """The new commit's sha; None as content removes a path."""
        content = dict(self.commits[parent]) if parent is not None else {}
        for path, value in files.items():
            if value is None:
                content.pop(path)
            else:
                content[path] = value
        sha = hashlib.sha1(
            f"{parent} {sorted(content.items())!r} {len(self.commits)}".encode(), usedforsecurity=False
        ).hexdigest()
        self.commits[sha], self.parents[sha] = content, parent
        if branch is not None:
            self.branches[branch] = sha
        return sha

    def ancestors(self, sha: str | None) -> list[str]:
        found: list[str] = []
        while sha is not None:
            found.append(sha)
            sha = self.parents[sha]
        return found

    def merge_base(self, one: str, other: str) -> str:
        theirs = set(self.ancestors(other))
        return next(sha for sha in self.ancestors(one) if sha in theirs)

    def changed(self, before: str, after: str) -> list[str]:
        old, new = self.commits[before], self.commits[after]
        return sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))

    def blob(self, sha: str) -> bytes | None:
        for content in self.commits.values():
            for value in content.values():
                if blob_sha(value) == sha:
                    return value.to.encode() if isinstance(value, Link) else bytes(value)  # type: ignore[arg-type]
        return None


def blob_sha(value: Content) -> str:
    """As git names it."""
    if isinstance(value, Submodule):
        return value.sha
    data = value.to.encode() if isinstance(value, Link) else value
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def mode_of(value: Content) -> str:
    return {bytes: "100644", Link: "120000", Submodule: "160000"}[type(value)]
