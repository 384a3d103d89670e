"""What a forge calls a change: the push or pull request that a job tests, and what makes two submits one event."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

BRANCH = "refs/heads/"
COMMENT_CAUSE = "comment:"  # how the cause begins of what a comment asked for; its number follows
DEFAULT_SUITE = "default"
# By this begins the cause of a run of the service's own, where somebody with a token was first.
OWN_CAUSE = "own:"

# Checked by `faults_of`, in words that say what to send.
COMMIT = (re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}"), "must be a commit's 40 or 64 hex digits in lower case")
REF = (re.compile(r"[^\x00-\x20\x7f-\x9f]{1,255}"), "must be a branch or tag of 1 to 255 characters, without blanks")
PATTERNS = {
    "repository": (re.compile(r"(?=.{3,255}\Z)[\w.-]+(?:/[\w.-]+)+"), "must be owner/name"),
    "ref": REF,
    "base_ref": REF,
    "head_sha": COMMIT,
    "base_sha": COMMIT,
    "cause": (re.compile(r"[^\x00-\x20\x7f-\x9f]{1,200}"), "must have 1 to 200 characters, without blanks"),
}
SUITE_NAME = (
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}"),
    "must have 1 to 100 letters, digits or ._/- and begin with a letter or digit",
)


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which change a run tests. The same event sent again gets the same job; a newer head ends the older one's job."""

    forge: Annotated[str, Meta(max_length=32, description="Whose change it is", examples=["github", "gitlab"])]
    repository: Annotated[str, Meta(description="owner/name, as it is shown", examples=["acme/prompts"])]
    repository_id: Annotated[
        int, Meta(ge=1, le=2**63 - 1, description="The forge's number: it stays when a repository is renamed.")
    ]
    ref: Annotated[str, Meta(description="The branch or tag", examples=["refs/heads/main"])]
    head_sha: Annotated[str, Meta(description="40 or 64 hex digits in lower case")]
    base_ref: str | UnsetType = UNSET
    base_sha: str | UnsetType = UNSET
    pull_request: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="Of a pull or merge request: it counts, not the ref.")]
        | UnsetType
    ) = UNSET
    cause: Annotated[
        str,
        Meta(
            description="`head` for a new head; the id of what asked again (a check, a comment, a schedule's tick, an "
            "attempt) for another run of the same head."
        ),
    ] = "head"


def faults_of(change: Change) -> list[str]:
    """What cannot be, as `path: what`."""
    values = {name: getattr(change, name) for name in PATTERNS}
    return [
        f"change.{name}: {words}"
        for name, (pattern, words) in PATTERNS.items()
        if values[name] is not UNSET and not pattern.fullmatch(values[name])
    ]


def plain_change(change: Change) -> Change:
    """With branches by their names alone, as one source says `main` and another `refs/heads/main`."""
    base = change.base_ref.removeprefix(BRANCH) if isinstance(change.base_ref, str) else UNSET
    return msgspec.structs.replace(change, ref=change.ref.removeprefix(BRANCH) or change.ref, base_ref=base or UNSET)
