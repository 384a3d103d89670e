"""What Slack and Discord are sent, whole, and when they are left alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifiers import NOTIFIERS, Notice, Receipt, Request, Response
from notifiers._notice import MODES, require_mode
from notifiers._urllib import drive, opener
from notifiers.discord import DiscordTarget
from notifiers.discord import tell as tell_discord
from notifiers.slack import SlackTarget
from notifiers.slack import message as slack_message
from notifiers.slack import tell as tell_slack
from tests.notices import HOSTILE, a_change, a_failure, a_notice, a_row, a_success
from tests.standins.discord import PATH, Discord
from tests.standins.slack import Slack


def requests_of(kind: str, notice: Notice, target: object) -> list[Request]:
    """What is asked of a platform that says yes to everything."""
    seen: list[Request] = []

    def say_yes(request: Request) -> Response:
        seen.append(request)
        return Response(status=200, body=b'{"id": "123456789"}')

    drive(NOTIFIERS[kind].tell(notice, target), send=say_yes)
    return seen


SLACK = SlackTarget(url="https://hooks.slack.com/services/T0/B0/xxxxxxxx")
DISCORD = DiscordTarget(url="https://discord.com/api/webhooks/123456/" + "t" * 68)


@pytest.mark.parametrize("kind_and_target", [("slack", SLACK), ("discord", DISCORD)], ids=["slack", "discord"])
@pytest.mark.parametrize(
    ("previous", "notice", "messages"),
    [
        (None, a_success(), 0),
        (None, a_failure(), 1),
        ("passed", a_success(), 0),
        ("passed", a_failure(), 1),
        ("failed", a_failure(), 0),
        ("failed", a_success(), 1),
        ("failed", a_notice(a_row(state="error")), 0),
        ("passed", a_notice(a_row(state="error")), 0),
    ],
)
def test_chat__speaks_when_the_state_changes(
    kind_and_target: tuple[str, object], previous: str | None, notice: Notice, messages: int
) -> None:
    kind, target = kind_and_target
    from dataclasses import replace

    assert len(requests_of(kind, replace(notice, previous=previous), target)) == messages


def test_slack__the_whole_message() -> None:
    message = slack_message(a_failure())

    assert message == {
        "text": "❌ 1 failure, score 50 %: @acme/greeter",
        "blocks": [
            {
                "type": "header",
                "text": {"type": "plain_text", "text": "❌ 1 failure, score 50 %", "emoji": False},
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": "*Package* `@acme/greeter` · *suite* `prpm.test.yaml`",
                    "verbatim": True,
                },
            },
            {
                "type": "section",
                "text": {
                    "type": "mrkdwn",
                    "text": "*`Says hello · gpt-4o`*\n"
                    'failed: `the answer does not contain "hello"`\n'
                    "got: `Good morning to you.`",
                    "verbatim": True,
                },
            },
            {
                "type": "context",
                "elements": [
                    {
                        "type": "mrkdwn",
                        "text": "$0.0123 · 12.3 s · #12 · 1a2b3c4 · <https://testing.example/jobs/1|full result>",
                        "verbatim": True,
                    }
                ],
            },
        ],
        "unfurl_links": False,
        "unfurl_media": False,
    }


def test_discord__the_whole_message() -> None:
    (request,) = requests_of("discord", a_failure(), DISCORD)

    assert request.url.endswith("?wait=true")
    assert json.loads(request.body or b"") == {
        "embeds": [
            {
                "title": "❌ 1 failure, score 50 %",
                "description": "`@acme/greeter` · `prpm.test.yaml`",
                "color": 0xCF222E,
                "fields": [
                    {
                        "name": "`Says hello · gpt-4o`",
                        "value": 'failed: `the answer does not contain "hello"`\ngot: `Good morning to you.`',
                        "inline": False,
                    }
                ],
                "footer": {"text": "$0.0123 · 12.3 s · #12 · 1a2b3c4"},
                "url": "https://testing.example/jobs/1",
            }
        ],
        "allowed_mentions": {"parse": []},
    }


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=300), st.sampled_from(HOSTILE), st.text(alphabet="<>&!@`|", max_size=400)))
def test_slack__O8_no_text_is_ever_active(text: str) -> None:
    rows = [a_row(text, state="failed", response=text, model=text, change=a_change("regressed"))] * 8

    message = slack_message(a_notice(*rows, package=text, suite=text, ref=text))

    sent = json.dumps(message, ensure_ascii=False)
    assert re.findall(r"<[^>]*>", sent) == ["<https://testing.example/jobs/1|full result>"]
    assert not re.search(r"&(?!amp;|lt;|gt;)", sent), "an escape was cut apart"
    assert len(_texts(message)) < 13_000


@settings(max_examples=60, deadline=None)
@given(text=st.one_of(st.text(max_size=300), st.sampled_from(HOSTILE), st.text(alphabet="@<&`*_|🎉", max_size=900)))
def test_discord__O9_mentions_nobody_and_stays_within_6000_characters(text: str) -> None:
    rows = [a_row(text, state="failed", response=text * 3, model=text, change=a_change("regressed"))] * 8

    (request,) = requests_of("discord", a_notice(*rows, package=text, suite=text, ref=text), DISCORD)

    body = json.loads(request.body or b"")
    assert body["allowed_mentions"] == {"parse": []}
    (embed,) = body["embeds"]
    outside_code = "".join(
        part for item in (*embed["fields"], {"v": embed["description"]}) for value in item.values()
        if isinstance(value, str) for part in value.split("`")[::2]
    )  # fmt: skip
    assert not set(outside_code) & set("@<*_|"), "text of others stands in code only"
    assert len(_texts(body).encode("utf-16-le")) // 2 < 6_000


def _texts(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(_texts(item) for item in value.values())
    if isinstance(value, list):
        return "".join(_texts(item) for item in value)
    return value if isinstance(value, str) else ""


def test_discord__edits_its_message_and_posts_anew_when_that_is_gone() -> None:
    with Discord().running() as discord:
        target = DiscordTarget(url=discord.url + PATH)
        first = told(a_failure(), target)
        edited = told(a_success(), DiscordTarget(url=discord.url + PATH, message_id=first.message_id))
        (shown,) = discord.messages.values()
        discord.messages.clear()
        anew = told(a_failure(), DiscordTarget(url=discord.url + PATH, message_id=first.message_id))

        assert edited.did == ("edited the message",)
        assert shown["embeds"][0]["title"] == "✅ all 2 rows passed, score 100 %"
        assert list(discord.messages) == [anew.message_id]
        assert anew.message_id != first.message_id
        assert discord.violations == []


def test_discord__speaks_in_the_thread_of_its_address() -> None:
    with Discord().running() as discord:
        told(a_failure(), DiscordTarget(url=discord.url + PATH, thread_id="123456789"))

        assert dict(discord.log[0].query) == {"wait": "true", "thread_id": "123456789"}


def told(notice: Notice, target: DiscordTarget) -> Receipt:
    return drive(tell_discord(notice, target), send=opener(use_proxies=False))


def test_slack__a_webhook_that_is_gone_says_slacks_word() -> None:
    from notifiers import CannotNotify

    with Slack().running() as slack:
        target = SlackTarget(url=f"{slack.url}/services/T0/B0/gone")

        with pytest.raises(CannotNotify, match="no_service") as caught:
            drive(tell_slack(a_failure(), target), send=opener(use_proxies=False))

        assert caught.value.gone


@pytest.mark.parametrize("number", ["", "1", "12a456", "1" * 40, "123/../456"])
def test_discord__ids_are_numbers(number: str) -> None:
    with pytest.raises(ValueError, match="Discord's numbers"):
        DiscordTarget(url="https://x", message_id=number)


def test_mode__an_unknown_one_lists_those_that_there_are() -> None:
    assert [require_mode(word) for word in MODES] == list(MODES)
    with pytest.raises(ValueError, match="changes, always, failures, never"):
        require_mode("sometimes")
