"""What every notifier promises that an address alone leads to: it says what is no job, and nothing of its secrets."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime

import pytest

from notifiers import NOTIFIERS, Announcement
from notifiers._urllib import drive, opener
from tests.notices import HOSTILE

SPEAKERS = [name for name, entry in NOTIFIERS.items() if entry.say is not None]
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def an_announcement(**changes: str) -> Announcement:
    usual = {"event_id": "check_1", "event": "target.check", "title": "This target works", "text": "Nothing to do."}
    return Announcement(**{**usual, **changes}, at=NOON, told_at=datetime.now(UTC))  # type: ignore[arg-type]  # words


def test_family__each_that_an_address_leads_to_can_say_that_it_works():
    assert [name for name, entry in NOTIFIERS.items() if entry.from_url is not None] == SPEAKERS


@pytest.mark.parametrize("name", SPEAKERS)
@pytest.mark.parametrize("mood", ["good", "warning", "bad"])
def test_announcement__arrives_within_the_platforms_rules(name: str, mood: str):
    platform = importlib.import_module(f"tests.standins.notifiers.{name}")
    with platform.stand_in().running() as server:
        say = NOTIFIERS[name].say
        assert say is not None

        receipt = drive(say(an_announcement(mood=mood), platform.target_for(server, "changes")), send=opener())

        assert receipt.did
        assert server.violations == []
        assert any("This target works" in text for text in platform.visible(server))


@pytest.mark.parametrize("name", SPEAKERS)
@pytest.mark.parametrize("text", [*HOSTILE, "x" * 10_000, ""])
def test_announcement__O8_O9_hostile_and_long_texts_stay_harmless(name: str, text: str):
    platform = importlib.import_module(f"tests.standins.notifiers.{name}")
    with platform.stand_in().running() as server:
        say = NOTIFIERS[name].say
        assert say is not None

        drive(say(an_announcement(text=text), platform.target_for(server, "changes")), send=opener())

        assert server.violations == []
