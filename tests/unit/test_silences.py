"""Who does not answer is left alone: a holder by itself, an origin where several of its holders met silence."""

from __future__ import annotations

import pytest

from server.services.silences import Silences

HERE, ELSEWHERE = "https://git.example", "https://other.example"


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def silences(clock: Clock) -> Silences:
    return Silences(monotonic=clock)


def test_silences__one_is_none_and_two_in_a_row_are_a_pause(silences: Silences):
    silences.note_silence(HERE, "a")
    once = silences.left(HERE, "a")
    silences.note_silence(HERE, "a")

    assert (once, silences.left(HERE, "a")) == (0.0, 15.0)


def test_silences__grow_to_five_minutes_and_end_with_an_answer(silences: Silences, clock: Clock):
    pauses = []
    for _ in range(9):
        silences.note_silence(HERE, "a")
        pauses.append(silences.left(HERE, "a"))
        clock.now += pauses[-1]

    assert pauses == [0.0, 15.0, 30.0, 60.0, 120.0, 240.0, 300.0, 300.0, 300.0]
    assert silences.left(HERE, "a") == 0.0
    silences.note_answer(HERE, "a")
    silences.note_silence(HERE, "a")
    assert silences.left(HERE, "a") == 0.0


def test_silences__of_one_holder_however_many_are_nobody_elses(silences: Silences):
    for _ in range(100):
        silences.note_silence(HERE, "a")

    assert silences.left(HERE, "b") == 0.0


def test_silences__of_three_holders_are_the_origins_and_no_other_ones(silences: Silences, clock: Clock):
    for holder in ("a", "b", "c"):
        silences.note_silence(HERE, holder)

    assert silences.left(HERE, "d") == 15.0
    assert silences.left(ELSEWHERE, "d") == 0.0
    clock.now += 15
    assert silences.left(HERE, "d") == 0.0


def test_silences__an_answer_to_anybody_shows_that_the_origin_is_there(silences: Silences):
    for holder in ("a", "b"):
        silences.note_silence(HERE, holder)
    silences.note_answer(HERE, "d")
    silences.note_silence(HERE, "c")

    assert silences.left(HERE, "d") == 0.0


def test_attack__holders_of_one_mind_stop_the_others_for_seconds_at_most(silences: Silences, clock: Clock):
    for _ in range(50):
        for holder in ("a", "b", "c"):
            silences.note_silence(HERE, holder)

    assert silences.left(HERE, "d") <= 15.0
    assert silences.left(HERE, "a") == 300.0
    clock.now += 15
    silences.note_answer(HERE, "d")
    assert (silences.left(HERE, "d"), silences.left(HERE, "a")) == (0.0, 285.0)
