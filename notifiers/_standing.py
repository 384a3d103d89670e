"""How a check stands where there is no outcome: a job that waits or runs, or the reason why there is no job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from notifiers._text import one_line

NO_TITLE = "Prompt tests"
# Of a check that no job stands behind: the same for all of them, so that a job can take the place of one.
NO_JOB = "state"
WAITING = ("queued", "in_progress")
# What needs somebody's doing: whoever has to do it needs more words than a commit's status has room for.
TO_DO = ("action_required", "failure")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One check of a commit, as a forge is to show it now. Title and summary may hold other people's text.

    `key` names the check among those of its commit: the job's id, or `NO_JOB`. `state` is queued, in_progress, neutral,
    failure or action_required. `is_answer`: somebody asked for it in a comment, and waits to read it.
    """

    key: str
    package: str | None  # None: of all
    suite: str
    state: str
    title: str
    accepted_at: datetime  # with its zone
    summary: str = ""
    url: str = ""
    is_answer: bool = False

    def __post_init__(self) -> None:
        if self.accepted_at.tzinfo is None:
            raise ValueError("accepted_at needs a zone, such as UTC")

    @property
    def headline(self) -> str:
        """The title on one line, and never nothing."""
        return one_line(self.title) or NO_TITLE

    @property
    def is_waiting(self) -> bool:
        """Whether something is still to come."""
        return self.state in WAITING

    @property
    def needs_words(self) -> bool:
        """Whether the summary has to be read, and not the title alone."""
        return self.state in TO_DO or self.is_answer
