"""What every notifier promises that shows checks without an outcome: within all rules, once, and harmless."""

from __future__ import annotations

import contextlib
import importlib
from typing import Any

import pytest

from notifiers import NOTIFIERS, CannotNotify, NoResponse, Standing
from notifiers._http import Patience
from notifiers._standing import NO_JOB
from notifiers._urllib import drive, opener
from tests.notices import HOSTILE, NOON
from tests.standins.web import Answer, Fault

SHOWING = [name for name, entry in NOTIFIERS.items() if entry.stand is not None]
STATES = ("queued", "in_progress", "neutral", "failure", "action_required")


def a_standing(**changes: Any) -> Standing:
    usual: dict[str, Any] = {
        "key": NO_JOB, "package": "@acme/greeter", "suite": "default", "state": "action_required",
        "title": "This waits for somebody", "summary": "Comment `/prpm test`.", "accepted_at": NOON,
    }  # fmt: skip
    return Standing(**usual | changes)


def show(name: str, server: Any, standing: Standing, *, tries: int = 1, mode: str = "changes") -> Any:
    platform = importlib.import_module(f"tests.standins.notifiers.{name}")
    stand = NOTIFIERS[name].stand
    assert stand is not None
    target = platform.target_for(server, mode)
    return drive(stand(standing, target), send=opener(), patience=Patience(tries=tries), sleep=lambda _: None)


@pytest.fixture(params=SHOWING)
def platform(request: pytest.FixtureRequest):
    module = importlib.import_module(f"tests.standins.notifiers.{request.param}")
    with module.stand_in().running() as server:
        yield request.param, server


def test_standing__each_state_arrives_within_the_platforms_rules(platform):
    name, server = platform

    for state in STATES:
        assert show(name, server, a_standing(state=state)).did

    assert server.violations == []


def test_standing__O1_to_O9_hostile_and_long_texts_stay_harmless(platform):
    name, server = platform

    for text in (*HOSTILE, "x" * 100_000, "a\n" * 10_000):
        show(name, server, a_standing(title=text or "x", summary=text, package=text or "p", suite=text or "s"))

    assert server.violations == []


def test_standing__of_all_packages_needs_no_name_of_one(platform):
    name, server = platform

    assert show(name, server, a_standing(package=None)).did

    assert server.violations == []


@pytest.mark.parametrize("mode", ["changes", "never"])  # at GitHub, with checks and without
def test_standing__that_others_say_in_comments_makes_none_and_keeps_true_what_is_there(platform, mode: str):
    name, server = platform
    visible = importlib.import_module(f"tests.standins.notifiers.{name}").visible

    show(name, server, a_standing(state="failure", may_comment=False), mode=mode)
    assert visible(server) == []
    show(name, server, a_standing(state="action_required"), mode=mode)
    asked = len(visible(server))
    show(name, server, a_standing(state="failure", title="Ended so", may_comment=False), mode=mode)

    assert [len(visible(server)), sum("Ended so" in one for one in visible(server))] == [asked, asked]
    assert server.violations == []


def test_standing__a_rate_limit_is_for_later_and_says_when(platform):
    name, server = platform
    server.faults = [Fault(answer=Answer(status=429, headers={"Retry-After": "77"}), times=9)]

    with pytest.raises(CannotNotify) as refused:
        show(name, server, a_standing())

    assert (refused.value.retryable, refused.value.retry_after_seconds) == (True, 77.0)


def test_standing__a_lost_answer_is_asked_again_and_shown_once(platform):
    name, server = platform
    server.faults = [Fault(after=True, methods=("POST", "PATCH", "PUT"))]

    for _ in range(2):
        with contextlib.suppress(NoResponse):  # the outbox begins anew
            show(name, server, a_standing(), tries=3)

    shown = getattr(server, "check_runs", None) or getattr(server, "notes", {})
    assert len(shown) == 1
    assert server.violations == []
