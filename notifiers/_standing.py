"""How a check stands where there is no outcome: a job that waits or runs, the reason why there is no job, or the sum
of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from notifiers._text import one_line

NO_TITLE = "Prompt tests"
# Of a check that no job stands behind: the same for all of them, so that a job can take the place of one.
NO_JOB = "state"
WAITING = ("queued", "in_progress")
# What needs somebody's doing: whoever has to do it needs more words than a commit's status has room for.
TO_DO = ("action_required", "failure")
CONCLUDED = {"passed": "success", "failed": "failure"}
# What ended a run without a conclusion of its tests; all else is inconclusive.
ENDED = {"cancelled": "cancelled"}


def ended_state(conclusion: str, error_code: str) -> str:
    """How a job's check stands when the job has ended: success, failure, cancelled or inconclusive."""
    return CONCLUDED.get(conclusion) or ENDED.get(error_code, "inconclusive")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One package of a commit, as it stands now. All texts may be other people's."""

    package: str
    suite: str
    state: str  # as of a `Standing`
    title: str
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One check of a commit, as a forge is to show it now. Title and summary may hold other people's text.

    `key` names the check among those of its commit: the job's id, or `NO_JOB`. `state` is queued, in_progress, success,
    neutral (nothing is wrong), inconclusive (there is no verdict), cancelled, failure or action_required.
    `is_answer`: somebody asked for it in a comment, and waits to read it. `is_notable`: nothing else tells of it.
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
    is_notable: bool = False
    parts: Sequence[Part] = ()  # of which this is the sum
    may_comment: bool = True  # where there are no checks; False: others say it in comments

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
        return self.state in TO_DO or self.is_answer or self.is_notable
