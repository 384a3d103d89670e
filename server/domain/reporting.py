"""What a forge is shown of jobs, and of what is no job."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from msgspec import Struct

from server.domain.changes import Change

CommentMode = Literal["changes", "always", "failures", "never"]
State = Literal["queued", "neutral", "failure", "action_required"]  # of what is no job


class ReportSettings(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a job is reported, as its repository's configuration says; kept with the job.

    `check` is a check run on GitHub for the App, and a commit status for everybody else. `notify` chooses among the
    targets that the account has already; None: all that want the package.
    """

    comment: CommentMode = "changes"
    check: bool = True
    commit_status: bool = False  # one beside the check run
    suite_path: str | None = None  # of the suite's file in the repository, for annotations
    notify: tuple[UUID, ...] | None = None


class CheckState(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A check that no job stands behind. Title and summary are plain text, and may hold other people's."""

    change: Change
    suite_name: str
    state: State
    title: str
    summary: str
    at: datetime  # when it was said
    package: str | None = None
    commit_status: bool = False  # one beside the check
    is_notable: bool = False  # people have to read it, also where there are no checks
