"""What readers of a job's events are told: decided from stored facts, so that a resume fits anywhere."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from server.api.job_events import Event, encode, tell
from server.domain.jobs import JobView
from server.domain.news import ENDED, Place, TrialNews, WatchedCase, parse_place

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CASES = (WatchedCase("says Paris", 2), WatchedCase("says\nRome"))


def a_job(status: str, **changes: Any) -> JobView:
    usual: dict[str, Any] = {
        "id": uuid.UUID(int=1), "fence": 0, "attempt": 0, "status": status, "package_id": uuid.UUID(int=2),
        "package_name": "@alice/p", "package_version": "1.0.0", "models": ["a", "b"], "plugins": None,
        "framework": "litellm", "suite_source": "package", "conclusion": None, "results": None, "error_code": None,
        "error_message": None, "test_result_id": None, "trials_total": 6, "trials_finished": 0, "trials_passed": 0,
        "trials_failed": 0, "trials_errored": 0, "position": None, "created_at": NOW, "started_at": None,
        "completed_at": None, "cached_at": None, "suite_name": "default", "change": None, "superseded_by": None,
    }  # fmt: skip
    return JobView(**usual | changes)


def a_trial(seq: int, *, case: int = 0, model: str = "a", repeat: int = 0, state: Any = "passed") -> TrialNews:
    return TrialNews(seq=seq, case_index=case, model=model, repeat_index=repeat, state=state, score=1.0)


TRIALS = [
    a_trial(11),
    a_trial(12, model="b", state="failed"),
    a_trial(15, repeat=1, state="error"),
    a_trial(17, repeat=1, model="b"),
    a_trial(18, case=1),
    a_trial(19, case=1, model="b", state="skipped"),
]
RUNNING = {"started_at": NOW, "attempt": 1, "fence": 7}
# As a job may be found at each look: it waits, runs, is given back, runs again elsewhere, ends.
STORY: list[tuple[JobView, int]] = [
    (a_job("queued", position=3), 0),
    (a_job("queued", position=1), 0),
    (a_job("running", **RUNNING), 0),
    (a_job("running", **RUNNING), 1),
    (a_job("running", **RUNNING), 3),
    (a_job("queued", position=2, started_at=NOW, fence=8), 3),
    (a_job("running", started_at=NOW, attempt=2, fence=9), 3),
    (a_job("running", started_at=NOW, attempt=2, fence=9), 5),
    (a_job("completed", started_at=NOW, attempt=2, fence=9, completed_at=NOW), 6),
]


def names(events: list[Event]) -> list[str]:
    return [event.name for event in events]


def heard(looks: list[tuple[JobView, int]], place: Place) -> list[Event]:
    """What a reader hears that has these looks at the job, from `place` on."""
    events: list[Event] = []
    for job, count in looks:
        events += tell(job, TRIALS[:count], CASES, place=place)
        place = events[-1].place if events else place
    return events


def test_tell__a_reader_from_the_start_hears_everything_in_order():
    assert names(heard(STORY, Place())) == [
        "queued", "queued", "started", "trial", "progress", "trial", "trial", "progress", "queued", "started",
        "trial", "trial", "progress", "trial", "progress", "completed",
    ]  # fmt: skip


def test_tell__a_look_that_finds_nothing_new_tells_nothing():
    for job, count in STORY:
        events = list(tell(job, TRIALS[:count], CASES, place=Place()))

        assert list(tell(job, TRIALS[:count], CASES, place=events[-1].place)) == []


@pytest.mark.parametrize("seed", range(20))
def test_tell__whoever_comes_back_at_any_moment_misses_no_trial_and_hears_none_twice(seed: int):
    dice = random.Random(seed)  # noqa: S311 - dice, not secrets
    place, trials, ends = Place(), [], 0
    for look, (job, count) in enumerate(STORY):
        if dice.random() < 0.4 and look < len(STORY) - 1:
            continue  # away, and later perhaps with another process
        while events := list(tell(job, TRIALS[:count], CASES, place=place)):
            taken = events[: dice.randint(1, len(events))]  # the connection breaks behind any event
            trials += [event.place.seq for event in taken if event.name == "trial"]
            ends += taken[-1].name == "completed"
            place = parse_place(str(taken[-1].place))

    assert trials == [trial.seq for trial in TRIALS]
    assert ends == 1
    assert place.stage == ENDED


def test_tell__a_job_that_is_over_is_told_whole():
    assert names(heard(STORY[-1:], Place())) == ["started", *["trial"] * 6, "progress", "completed"]


def test_tell__a_job_cancelled_in_the_queue_never_started():
    assert names(heard([(a_job("failed", fence=3, error_code="cancelled"), 0)], Place())) == ["failed"]


def test_tell__says_which_case_model_and_repeat_and_what_is_asked_next():
    started, *trials, progress = [event.make() for event in heard([STORY[4]], Place())]

    assert msgspec.to_builtins(started)["asking"] == {"case": "says Paris", "model": "a", "repeat": 1}
    assert [msgspec.to_builtins(trial) for trial in trials] == [
        {"case_index": 0, "case": "says Paris", "model": "a", "repeat": 1, "state": "passed", "score": 1.0},
        {"case_index": 0, "case": "says Paris", "model": "b", "repeat": 1, "state": "failed", "score": 1.0},
        {"case_index": 0, "case": "says Paris", "model": "a", "repeat": 2, "state": "error"},
    ]
    assert msgspec.to_builtins(progress) == {
        "trials_total": 6, "trials_finished": 3, "passed": 1, "failed": 1, "errored": 1,
        "asking": {"case": "says Paris", "model": "b", "repeat": 2},
    }  # fmt: skip


def test_encode__an_event_is_lines_whatever_its_titles_hold():
    (event,) = [event for event in heard([STORY[-1]], Place()) if event.place.seq == 18]

    assert encode(event, {}).decode() == (
        "id: 9.r.0.18.0\nevent: trial\n"
        'data: {"case_index":1,"case":"says\\nRome","model":"a","repeat":1,"state":"passed","score":1.0}\n\n'
    )


@pytest.mark.parametrize("text", ["", "1", "1.r.0.5", "1.x.0.5.0", "1.r.0.5.0 ", "-1.r.0.5.0", "1.r.0.-2.0", "9" * 99])
def test_parse_place__what_is_no_id_is_refused(text: str):
    with pytest.raises(ValueError, match="not an event's id"):
        parse_place(text)
