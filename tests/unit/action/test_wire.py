"""Requests to the service: how often they are tried, how long, and what ends them. G10."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from action_entry.errors import NotNow
from action_entry.wire import Clock, Wire
from tests.standins.web import Answer, Fault, Seen, StandIn


class Friendly(StandIn):
    def answer(self, seen: Seen) -> Answer:
        return Answer(body={"fine": True})


class Hours:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.slept: list[float] = []

    def clock(self, *, deadline: float | None = None, chance: float = 0.5) -> Clock:
        return Clock(now=lambda: self.time, sleep=self.sleep, chance=lambda: chance, deadline=deadline)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


@pytest.fixture
def server() -> Iterator[Friendly]:
    with Friendly().running() as running:
        yield running


def test_wire__G10_tries_again_until_the_service_is_back(server: Friendly) -> None:
    hours = Hours()
    server.faults = [Fault(answer=Answer(status=502)), Fault(), Fault(answer=Answer(status=503))]

    response = Wire(server.url, clock=hours.clock()).call("GET", "/x")

    assert response.json() == {"fine": True}
    assert hours.slept == [0.75, 1.5, 3.0]


def test_wire__G10_gives_up_after_five_tries(server: Friendly) -> None:
    hours = Hours()
    server.faults = [Fault(answer=Answer(status=500), times=10)]

    with pytest.raises(NotNow, match="It was asked 5 times"):
        Wire(server.url, clock=hours.clock()).call("GET", "/x")

    assert (len(server.log), len(hours.slept)) == (5, 4)


def test_wire__G10_chance_spreads_the_tries(server: Friendly) -> None:
    server.faults = [Fault(answer=Answer(status=500), times=2)]
    pauses = []
    for chance in (0.0, 0.99):
        hours = Hours()
        Wire(server.url, clock=hours.clock(chance=chance)).call("GET", "/x")
        pauses += hours.slept
        server.faults = [Fault(answer=Answer(status=500), times=1)]

    assert pauses[0] == 0.5
    assert pauses[-1] == pytest.approx(0.995)


@pytest.mark.parametrize(("said", "waited"), [("3", 3.5), ("3600", 15.5)])
def test_wire__waits_as_long_as_it_is_asked_but_not_an_hour(server: Friendly, said: str, waited: float) -> None:
    hours = Hours()
    server.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": said}))]

    Wire(server.url, clock=hours.clock()).call("GET", "/x")

    assert hours.slept == [waited]


def test_wire__G10_the_whole_has_an_end(server: Friendly) -> None:
    hours = Hours()
    server.faults = [Fault(answer=Answer(status=500), times=10)]

    with pytest.raises(NotNow, match="time-out"):
        Wire(server.url, clock=hours.clock(deadline=1002.0)).call("GET", "/x")

    assert sum(hours.slept) == 2.0


def test_wire__G10_an_answer_without_end_is_not_read_to_it(server: Friendly) -> None:
    server.faults = [Fault(answer=Answer(), endless=True, times=9)]

    with pytest.raises(NotNow, match="answered more than 3,000,000 bytes"):
        Wire(server.url, clock=Hours().clock()).call("GET", "/x", max_answer_bytes=3_000_000)


def test_wire__G10_other_refusals_are_the_callers(server: Friendly) -> None:
    hours = Hours()
    server.faults = [Fault(answer=Answer(status=404))]

    assert Wire(server.url, clock=hours.clock()).call("GET", "/x").status == 404
    assert hours.slept == []
