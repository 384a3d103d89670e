"""Addresses that people give: one plain form is taken, everything else is refused with a sentence."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from notifiers import InvalidTarget, target_for
from notifiers._urls import checked_url, linkable
from notifiers.discord import DiscordTarget
from notifiers.slack import SlackTarget
from notifiers.webhook import WebhookTarget, signature

SLACK = "https://hooks.slack.com/services/T0AAAAAA/B0BBBBBB/cccccccccccccccccccccccc"
DISCORD = "https://discord.com/api/webhooks/123456789012345678/" + "t" * 68

S1_SPELLINGS = (
    "localhost", "LOCALHOST", "localhost.", "a.localhost", "127.0.0.1", "127.1", "0", "2130706433",
    "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.0.0.1.", "[::1]", "[::]", "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::1%25eth0]", "[64:ff9b::7f00:1]", "169.254.169.254",
    "169.254.43518", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "224.0.0.1", "255.255.255.255", "8.8.8.8",
    "0.0.0" + ".0", "metadata",
    "metadata.google.internal", "printer.local", "db.corp", "router.lan", "x.home.arpa", "1.2.3.4.5",
    "０.０.０.０", "①②⑦.⓪.⓪.①", "exa_mple.com", "-a.example.com", "a..example.com", ".example.com",
)  # fmt: skip


@pytest.mark.parametrize("host", S1_SPELLINGS)
def test_target__S1_literal_and_inner_addresses_are_refused(host: str) -> None:
    with pytest.raises(InvalidTarget):
        target_for("webhook", f"https://{host}/hook")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "//example.com/",
        "https:example.com", "https://", "", "example.com", "https://user@example.com/", "https://user:pw@example.com/",
        "https://example.com:22/", "https://example.com:6379/", "https://example.com:99999/", "https://example.com:x/",
        "https://example.com\\@evil.example/", "https://example.com#@evil.example/", "https://example.com/#part",
        "https://exa\tmple.com/", "https://example.com/\n", " https://example.com/", "https://example.com/ x",
        "https://exämple.com/", "https://example.com/ä", "https://example.com/\r\nX-Header: 1", "https://[::1/",
        "https://example.com/" + "a" * 3000,
    ],
)  # fmt: skip
def test_target__S4_S7_what_parsers_could_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(InvalidTarget) as caught:
        target_for("webhook", url)

    assert "evil" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("slack", SLACK.replace("hooks.slack.com", "hooks.slack.com.evil.example")),
        ("slack", SLACK.replace("hooks.slack.com", "evil.example")),
        ("slack", "https://hooks.slack.com/services/T0/B0"),
        ("slack", "https://hooks.slack.com/services/../api/chat"),
        ("slack", DISCORD),
        ("discord", SLACK),
        ("discord", DISCORD.replace("discord.com", "discord.com.evil.example")),
        ("discord", "https://discord.com/api/webhooks/abc/def"),
        ("discord", DISCORD + "/slack"),
    ],
)
def test_target__S6_chat_addresses_have_exactly_one_form(kind: str, url: str) -> None:
    with pytest.raises(InvalidTarget, match="Copy it whole"):
        target_for(kind, url)


def test_target__of_each_kind_that_an_address_is_enough_for() -> None:
    assert target_for("slack", SLACK) == SlackTarget(url=SLACK)
    assert target_for("discord", DISCORD) == DiscordTarget(url=DISCORD)
    assert target_for("discord", DISCORD + "?thread_id=123456") == DiscordTarget(url=DISCORD, thread_id="123456")
    assert target_for("webhook", "https://example.com:443/a?b=c") == WebhookTarget(url="https://example.com:443/a?b=c")


def test_target__an_unknown_kind_lists_those_that_there_are() -> None:
    with pytest.raises(InvalidTarget, match="Choose one of: discord, slack, webhook"):
        target_for("pager", "https://example.com/")
    with pytest.raises(InvalidTarget, match="no kind of message 'github'"):
        target_for("github", "https://github.com/")


def test_target__an_allowed_origin_is_exact() -> None:
    allowed = frozenset({"http://127.0.0.1:8065"})

    assert target_for("webhook", "http://127.0.0.1:8065/x", allowed_origins=allowed).url == "http://127.0.0.1:8065/x"
    assert target_for("slack", "http://127.0.0.1:8065" + SLACK[23:], allowed_origins=allowed)
    for other in ("http://127.0.0.1:8066/x", "https://127.0.0.1:8065/x", "http://127.0.0.1:8065@evil.example/x"):
        with pytest.raises(InvalidTarget):
            target_for("webhook", other, allowed_origins=allowed)


def test_target__its_repr_hides_the_path() -> None:
    assert "ccccc" not in repr(checked_url(SLACK)) + repr(target_for("slack", SLACK))


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "data:text/html,x", "//x", "", "ftp://x", "https://" + "a" * 3000]
)
def test_link__leads_to_pages_only(url: str) -> None:
    assert linkable(url) == ""


def test_link__cannot_be_ended_by_its_address() -> None:
    assert linkable("https://x.example/a) [b](c <d>|`e\n") == "https://x.example/a%29%20%5Bb%5D%28c%20%3Cd%3E%7C%60e%0A"


def test_webhook__signs_by_the_standard() -> None:
    """The example of the standard's own specification, computed here from its words."""
    key = bytes(range(24))
    secret = "whsec_" + base64.b64encode(key).decode()
    wanted = hmac.new(key, b'msg_1.1674087231.{"a":1}', hashlib.sha256).digest()

    assert signature(secret, "msg_1", "1674087231", b'{"a":1}') == "v1," + base64.b64encode(wanted).decode()


@pytest.mark.parametrize("secret", ["whsec_", "whsec_c2hvcnQ=", "x" * 32, "whsec_!!!", "whsec_" + "A" * 400])
def test_webhook__a_secret_of_another_form_is_refused(secret: str) -> None:
    with pytest.raises(ValueError, match="base64 of 24 to 64 bytes"):
        WebhookTarget(url="https://example.com/", secret=secret)
