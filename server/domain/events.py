"""What a delivery of a forge means, in words that are no forge's: what was proposed, pushed, asked or linked."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Literal

from msgspec import Struct

LONGEST_CAUSE: Final = 200  # characters, as domain.changes has it

Proposal = Literal["opened", "updated", "reopened", "ready", "retargeted"]
LinkWord = Literal[
    "installed", "uninstalled", "suspended", "unsuspended", "added", "removed", "renamed", "transferred", "deleted"
]


class Repository(Struct, frozen=True, kw_only=True):
    """Named by its number, which stays; the name is for people and for addresses."""

    forge: str
    id: int
    name: str  # "owner/name"
    default_branch: str = ""  # "" where the delivery does not say


class NamedHead(Struct, frozen=True, kw_only=True):
    """The commit that an event asks to be tested, as it says so. `ref` is a branch, or a tag with `refs/tags/`."""

    sha: str
    ref: str
    pull_request: int | None = None
    base_ref: str = ""


class Event(Struct, frozen=True, kw_only=True):
    """Base. `installation_id` is the App's, where it came through one; a name in a body, to be checked (W18)."""

    repository: Repository
    installation_id: int | None = None

    @property
    def head(self) -> NamedHead | None:
        """What is shown on this commit, if the event never comes to be acted on; None: nothing."""
        return None


class ChangeProposed(Event, frozen=True, kw_only=True):
    """A pull or merge request has a head to be tested.

    `labels`: with which it was opened, by the author, where the forge tells of them in no event of their own.
    """

    action: Proposal
    number: int
    head_sha: str
    head_ref: str
    head_repository_id: int | None  # None: the fork is gone
    base_ref: str
    base_sha: str = ""  # "" where the delivery does not say
    is_draft: bool = False
    at: datetime | None = None  # by the forge's clock
    labels: tuple[str, ...] = ()
    author_id: int = 0
    author: str = ""

    @property
    def is_from_fork(self) -> bool:
        """Whether the head is another repository's: a stranger's, until somebody says otherwise (W20)."""
        return self.head_repository_id != self.repository.id

    @property
    def head(self) -> NamedHead:
        """Its own."""
        return NamedHead(sha=self.head_sha, ref=self.head_ref, pull_request=self.number, base_ref=self.base_ref)

    @property
    def cause(self) -> str:
        """What tells its run from others of this head: the same head for another branch is another run each time."""
        if self.action != "retargeted":
            return "head"
        return f"base:{self.at.isoformat() if self.at is not None else ''}:{self.base_ref}"[:LONGEST_CAUSE]


class BranchPushed(Event, frozen=True, kw_only=True):
    """A branch has a new head. `before` is "" for a new branch."""

    branch: str
    before: str
    after: str

    @property
    def is_default(self) -> bool:
        """Whether it is the branch that baselines come from."""
        return self.branch == self.repository.default_branch

    @property
    def head(self) -> NamedHead | None:
        """Of the branch whose pushes are tested."""
        return NamedHead(sha=self.after, ref=self.branch) if self.is_default else None


class TagPushed(Event, frozen=True, kw_only=True):
    """A tag names this commit. `object_sha`: what the tag itself points to, its own object if it is annotated."""

    tag: str
    sha: str
    object_sha: str

    @property
    def head(self) -> NamedHead:
        """What the tag names."""
        return NamedHead(sha=self.sha, ref=f"refs/tags/{self.tag}")


class GroupFormed(Event, frozen=True, kw_only=True):
    """A merge queue wants its checks on a group of changes. `branch` is the queue's own, `base_ref` what it is for."""

    branch: str
    base_ref: str
    head_sha: str

    @property
    def head(self) -> NamedHead:
        """Its own."""
        return NamedHead(sha=self.head_sha, ref=self.branch, base_ref=self.base_ref)


class GroupDissolved(Event, frozen=True, kw_only=True):
    """A merge queue has let go of a group that had this head."""

    branch: str
    base_ref: str
    head_sha: str


class CheckAskedAgain(Event, frozen=True, kw_only=True):
    """A person wants a check run, or all of a suite, once more. `asked` is unique for each time it is asked."""

    author_id: int
    author: str
    asked: str
    head_sha: str
    check_id: int | None  # None: all of the commit's
    key: str = ""  # what we called the check when we made it


class CommentMade(Event, frozen=True, kw_only=True):
    """Somebody wrote on a pull or merge request. Whether they may command is asked of the forge, not of this."""

    number: int
    comment_id: int
    author_id: int
    author: str
    text: str
    at: datetime | None = None  # by the forge's clock


class LabelSet(Event, frozen=True, kw_only=True):
    """Labels were put on a pull or merge request, for the head that it had.

    `proposed`: what the same delivery tells besides, where a forge tells of several things at once.
    """

    number: int
    labels: tuple[str, ...]
    head_sha: str
    author_id: int
    author: str
    at: datetime | None = None  # by the forge's clock
    proposed: ChangeProposed | None = None


class LinkChanged(Struct, frozen=True, kw_only=True):
    """The App was installed or removed, or repositories came, went, or have other names."""

    word: LinkWord
    installation_id: int | None
    owner_id: int | None = None
    owner: str = ""
    repositories: tuple[Repository, ...] = ()


class Ping(Struct, frozen=True):
    """The forge tries the address."""


class Uninteresting(Struct, frozen=True):
    """Authentic, and nothing to act on; `reason` says why, for people."""

    reason: str


Meaning = (
    ChangeProposed
    | BranchPushed
    | TagPushed
    | GroupFormed
    | GroupDissolved
    | CheckAskedAgain
    | CommentMade
    | LabelSet
    | LinkChanged
    | Ping
    | Uninteresting
)
