"""What changes about a job while somebody watches it."""

from __future__ import annotations

import re
from typing import NamedTuple

from msgspec import Struct

from evals.types import State

_PLACE = re.compile(r"([0-9]{1,18})\.([nqre])\.([0-9]{1,9})\.(-1|[0-9]{1,18})\.([0-9]{1,9})", re.ASCII)

# How far a reader was told: nothing yet, waiting, started, ended.
NOTHING, QUEUED, RUNNING, ENDED = "n", "q", "r", "e"


class Mark(NamedTuple):
    """Two equal ones say that a job did not change. `seq`: its newest trial while it runs, else 0."""

    status: str
    fence: int
    seq: int


class TrialNews(Struct, frozen=True, kw_only=True):
    """A finished trial, without what the model said. `score` is 0..1; None for one that was stored without."""

    seq: int
    case_index: int
    model: str
    repeat_index: int
    state: State
    score: float | None


class Place(Struct, frozen=True, kw_only=True):
    """Everything that a reader of a job's events was told, in stored facts alone; its text is the events' id.

    So whoever comes back with it, to this process or another, misses nothing and hears nothing twice.
    """

    fence: int = 0
    stage: str = NOTHING
    position: int = 0  # in the queue, as it was told last
    seq: int = -1  # of the last trial told
    counted: int = 0  # trials in the counts told last

    def __str__(self) -> str:
        return f"{self.fence}.{self.stage}.{self.position}.{self.seq}.{self.counted}"


def parse_place(text: str) -> Place:
    """The place that an event's id names. Raises ValueError."""
    match = _PLACE.fullmatch(text)
    if match is None:
        raise ValueError("not an event's id")
    fence, stage, position, seq, counted = match.groups()
    return Place(fence=int(fence), stage=stage, position=int(position), seq=int(seq), counted=int(counted))


class WatchedCase(Struct, frozen=True):
    """A case of the suite, as far as readers of events are told."""

    title: str
    repeat: int = 1


class WatchedSuite(Struct, frozen=True):
    """A suite's cases; what else is in it is not decoded."""

    cases: tuple[WatchedCase, ...] = ()
