"""What every source of deliveries keeps to, whichever the folder holds."""

from __future__ import annotations

import pytest

from server.domain.events import Meaning, Uninteresting
from server.webhooks import SOURCES, Delivery, InvalidDelivery


@pytest.mark.parametrize("name", SOURCES)
def test_source__nothing_is_authentic_without_a_secret(name: str):
    nothing = Delivery({}, b"{}")

    assert not SOURCES[name].is_authentic(nothing, {}, 0.0)
    assert not SOURCES[name].is_authentic(nothing, dict.fromkeys(SOURCES[name].secrets, ()), 0.0)
    assert not SOURCES[name].is_authentic(nothing, dict.fromkeys(SOURCES[name].secrets, (b"mine",)), 0.0)


@pytest.mark.parametrize("name", SOURCES)
def test_source__its_secrets_are_settings_of_its_own(name: str):
    assert SOURCES[name].secrets
    assert all(secret.startswith(name.upper().replace("-", "_") + "_") for secret in SOURCES[name].secrets)


@pytest.mark.parametrize("name", SOURCES)
def test_source__W17_an_event_that_it_does_not_know_is_uninteresting(name: str):
    assert isinstance(SOURCES[name].read("no-such-event", b'{"object_kind": "no_such_kind"}'), Uninteresting)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("event", ["push", "pull_request", "Push Hook", "Merge Request Hook", "ping", "installation"])
def test_source__reads_anything_or_says_what_is_wrong(name: str, event: str):
    for body in (b"", b"\x00", b"{}", b'{"repository": []}'):
        assert isinstance(meaning_or_trouble(name, event, body), Meaning | str)


def meaning_or_trouble(name: str, event: str, body: bytes) -> object:
    """What it means, or the sentence that says why it means nothing; whatever else is raised is a defect."""
    try:
        return SOURCES[name].read(event, body)
    except InvalidDelivery as invalid:
        return str(invalid)


@pytest.mark.parametrize("name", list(SOURCES))
def test_source__names_the_field_of_each_proofs_secret(name: str):
    assert set(SOURCES[name].secret_fields) == set(SOURCES[name].proofs)
