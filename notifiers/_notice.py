"""What there is to tell: an outcome, what it is about, and what was known before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from notifiers._outcome import Outcome
from notifiers._standing import ended_state

# changes: only what differs from the base; failures: only what failed; never: nothing is sent at all.
Mode = Literal["changes", "always", "failures", "never"]
MODES: tuple[Mode, ...] = ("changes", "always", "failures", "never")


def require_mode(word: str) -> Mode:
    """The mode of this name. Raises ValueError with those that there are."""
    for mode in MODES:
        if mode == word:
            return mode
    raise ValueError(f"{word[:40]!r} is no mode. Choose one of: {', '.join(MODES)}.")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """What the outcome was compared with."""

    label: str  # for people: "main", "main at 1a2b3c4"
    made_at: datetime | None = None  # with its zone
    score: float | None = None  # 0..1


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One finished job, as notifiers tell it. Every text may be hostile: names, titles and answers are other people's.

    `accepted_at` orders the jobs of one pull request: a later job's comment is never replaced by an earlier one's.
    """

    outcome: Outcome
    package: str  # "@author/name"
    suite: str  # as people name it: "prpm.test.yaml"
    job_id: str
    accepted_at: datetime  # with its zone
    finished_at: datetime  # with its zone
    told_at: datetime | None = None  # the moment of this try, with its zone, for signatures; else `finished_at`
    url: str = ""  # the page of the whole result
    ref: str = ""  # branch or "#12", for people
    head_sha: str = ""
    baseline: Baseline | None = None
    error_code: str = ""  # why the run could not be done, for programs; its sentence is among the outcome's notes
    is_unwanted: bool = False  # superseded, though by no newer commit: the change went
    previous: str | None = None  # the last conclusion that was told or known of this package on this branch
    suite_path: str | None = None  # of the suite's file within the repository, for annotations
    case_lines: Mapping[str, int] = field(default_factory=dict)  # title -> line in that file, from 1

    def __post_init__(self) -> None:
        for moment in (self.accepted_at, self.finished_at, self.told_at):
            if moment is not None and moment.tzinfo is None:
                raise ValueError("accepted_at, finished_at and told_at need a zone, such as UTC")

    @property
    def conclusion(self) -> str:
        return self.outcome.summary.conclusion

    @property
    def state(self) -> str:
        """How the job's check stands: success, failure, cancelled or inconclusive."""
        return ended_state(self.conclusion, self.error_code)

    @property
    def is_superseded(self) -> bool:
        """Whether a newer commit ended it, or nobody waits for the change any more."""
        return self.error_code == "superseded"

    def is_news(self, mode: Mode) -> bool:
        """Whether to tell it where nothing can be edited.

        A run without a conclusion leaves the state as it was, and a first run that passed is no news.
        """
        if mode == "changes":
            return self.conclusion in ("passed", "failed") and self.conclusion != (self.previous or "passed")
        return mode == "always" or (mode == "failures" and self.conclusion == "failed")
