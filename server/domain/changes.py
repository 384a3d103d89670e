"""What a forge calls a change: the push or pull request that a job tests, and what makes two submits one event."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

# No control characters: what stands here is shown on pages and in comments.
WORD = r"\A[^\x00-\x20\x7f-\x9f]+\Z"
COMMIT = r"\A(?:[0-9a-f]{40}|[0-9a-f]{64})\Z"
BRANCH = "refs/heads/"
DEFAULT_SUITE = "default"

Commit = Annotated[str, Meta(pattern=COMMIT, description="40 or 64 hex digits in lower case")]
Ref = Annotated[str, Meta(min_length=1, max_length=255, pattern=WORD)]
SuiteName = Annotated[
    str,
    Meta(
        pattern=r"\A[A-Za-z0-9][A-Za-z0-9._/-]{0,99}\Z",
        description="Tells suites of one package apart, also for `change`: letters, digits and `._/-`, at most 100.",
        examples=[DEFAULT_SUITE],
    ),
]


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which change a run tests. The same event sent again gets the same job; a newer head ends the older one's job."""

    forge: Literal["github", "gitlab"]
    repository: Annotated[
        str, Meta(max_length=255, pattern=r"\A[\w.-]+(?:/[\w.-]+)+\Z", description="owner/name, as it is shown")
    ]
    repository_id: Annotated[
        int, Meta(ge=1, le=2**63 - 1, description="The forge's number: it stays when a repository is renamed.")
    ]
    ref: Annotated[Ref, Meta(description="The branch or tag", examples=["refs/heads/main"])]
    head_sha: Commit
    base_ref: Ref | UnsetType = UNSET
    base_sha: Commit | UnsetType = UNSET
    pull_request: (
        Annotated[int, Meta(ge=1, le=2**31 - 1, description="Of a pull or merge request: it counts, not the ref.")]
        | UnsetType
    ) = UNSET
    cause: Annotated[
        str,
        Meta(
            max_length=200,
            pattern=WORD,
            description=(
                "`head` for a new head; the id of what asked again (a check, a comment, a schedule's tick, an attempt) "
                "for another run of the same head."
            ),
        ),
    ] = "head"


def plain_change(change: Change) -> Change:
    """With branches by their names alone, as one source says `main` and another `refs/heads/main`."""
    base = change.base_ref.removeprefix(BRANCH) if isinstance(change.base_ref, str) else UNSET
    return msgspec.structs.replace(change, ref=change.ref.removeprefix(BRANCH) or change.ref, base_ref=base or UNSET)
