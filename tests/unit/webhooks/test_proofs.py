"""Which deliveries are authentic, source by source, and what they are called."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from server.webhooks import SOURCES, Delivery
from tests.webhooks import github_headers, gitlab_headers

NOW = 1_790_000_000.0
BODY = b'{"action": "opened"}'
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER_SIGNING = "whsec_" + base64.b64encode(b"o" * 32).decode()


def a_delivery(headers: dict[str, str], body: bytes = BODY) -> Delivery:
    return Delivery({name.lower(): (value,) for name, value in headers.items()}, body)


def is_github(headers: dict[str, str], *, body: bytes = BODY, secrets: tuple[bytes, ...] = (b"mine",)) -> bool:
    return SOURCES["github"].is_authentic(a_delivery(headers, body), {"GITHUB_WEBHOOK_SECRET": secrets}, NOW)


def is_gitlab(headers: dict[str, str], *, body: bytes = BODY, signing: tuple[str, ...] = (), token: str = "") -> bool:
    secrets = {
        "GITLAB_SIGNING_SECRET": tuple(secret.encode() for secret in signing),
        "GITLAB_WEBHOOK_SECRET": (token.encode(),) if token else (),
    }
    return SOURCES["gitlab"].is_authentic(a_delivery(headers, body), secrets, NOW)


def test_github__a_body_signed_by_the_secret_is_authentic():
    assert is_github(github_headers(BODY, secret="mine"))


def test_github__W1_W5_without_a_signature_or_a_secret_nothing_is():
    assert not is_github({"X-GitHub-Event": "push"})
    assert not is_github(github_headers(BODY, secret=""), secrets=())


@pytest.mark.parametrize("bit", range(256))
def test_github__W2_each_bit_of_the_signature_counts(bit: int):
    right = hmac.new(b"mine", BODY, hashlib.sha256).digest()
    wrong = (int.from_bytes(right, "big") ^ (1 << bit)).to_bytes(32, "big")

    assert not is_github({"X-Hub-Signature-256": f"sha256={wrong.hex()}"})


def test_github__W2_another_secret_or_body_is_refused():
    assert not is_github(github_headers(BODY, secret="another"))
    assert not is_github(github_headers(BODY, secret="mine"), body=BODY + b" ")


def test_github__W3_the_old_header_alone_proves_nothing():
    headers = github_headers(BODY, secret="mine")
    del headers["X-Hub-Signature-256"]

    assert not is_github(headers)


@pytest.mark.parametrize(
    "signature", ["", "sha256=", "sha256=é", "sha256", "sha256=" + "a" * 10_000, "SHA256=RIGHT", "UPPER"]
)
def test_github__W4_odd_signatures_are_refused_and_break_nothing(signature: str):
    right = hmac.new(b"mine", BODY, hashlib.sha256).hexdigest()
    given = {"SHA256=RIGHT": f"SHA256={right}", "UPPER": f"sha256={right.upper()}"}.get(signature, signature)

    assert not is_github({"X-Hub-Signature-256": given})


def test_github__W4_a_header_that_came_twice_counts_as_none():
    right = github_headers(BODY, secret="mine")["X-Hub-Signature-256"]
    twice = Delivery({"x-hub-signature-256": (right, "sha256=00")}, BODY)

    assert not SOURCES["github"].is_authentic(twice, {"GITHUB_WEBHOOK_SECRET": (b"mine",)}, NOW)


def test_github__W9_while_secrets_change_both_hold():
    signed_with_old = github_headers(BODY, secret="old")

    assert is_github(signed_with_old, secrets=(b"new", b"old"))
    assert not is_github(signed_with_old, secrets=(b"new",))


def test_gitlab__a_signed_body_and_a_plain_token_are_authentic():
    assert is_gitlab(gitlab_headers(BODY, signing=SIGNING, at=NOW), signing=(SIGNING,))
    assert is_gitlab(gitlab_headers(BODY, token="a token"), token="a token")
    assert not is_gitlab(gitlab_headers(BODY, token="another"), token="a token")
    assert not is_gitlab({}, token="a token")


def test_gitlab__W21_with_a_signing_secret_the_token_is_no_way_round_it():
    both = gitlab_headers(BODY, signing=OTHER_SIGNING, token="a token", at=NOW)
    token_alone = gitlab_headers(BODY, token="a token")

    assert not is_gitlab(both, signing=(SIGNING,), token="a token")
    assert not is_gitlab(token_alone, signing=(SIGNING,), token="a token")


@pytest.mark.parametrize(("seconds", "holds"), [(0, True), (-299, True), (299, True), (-360, False), (360, False)])
def test_gitlab__W8_a_time_more_than_five_minutes_away_is_refused(seconds: float, holds: bool):
    assert is_gitlab(gitlab_headers(BODY, signing=SIGNING, at=NOW + seconds), signing=(SIGNING,)) is holds


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-timestamp", ""),
        ("webhook-timestamp", "-5"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "9" * 400),
        ("webhook-timestamp", "١٢٣"),
        ("webhook-signature", ""),
        ("webhook-signature", "v1,"),
        ("webhook-signature", "v1,!!!"),
        ("webhook-signature", "v2,AAAA"),
        ("webhook-signature", "v1,é"),
        ("webhook-id", "another"),
    ],
)
def test_gitlab__W4_odd_headers_are_refused_and_break_nothing(header: str, value: str):
    headers = gitlab_headers(BODY, signing=SIGNING, at=NOW) | {header: value}

    assert not is_gitlab(headers, signing=(SIGNING,))


def test_gitlab__W9_several_signatures_and_secrets_are_each_tried():
    headers = gitlab_headers(BODY, signing=SIGNING, at=NOW)
    headers["webhook-signature"] = f"v1,AAAA {headers['webhook-signature']}"

    assert is_gitlab(headers, signing=(OTHER_SIGNING, SIGNING))


@pytest.mark.parametrize("source", SOURCES)
def test_source__names_a_delivery_that_says_nothing_of_itself(source: str):
    named = SOURCES[source].identify(Delivery({}, BODY))

    assert len(named.id) <= 255
    assert named.event == ""


@pytest.mark.parametrize("source", SOURCES)
def test_source__a_name_has_a_length(source: str):
    long = dict.fromkeys(("x-github-delivery", "x-github-event", "idempotency-key", "x-gitlab-event"), ("x" * 5000,))

    named = SOURCES[source].identify(Delivery(long, BODY))

    assert len(named.id) == len(named.event) == 255


def test_gitlab__a_signed_delivery_has_the_name_that_its_signature_covers():
    delivery = Delivery({"idempotency-key": ("another",), "webhook-id": ("signed",)}, b"{}")

    assert SOURCES["gitlab"].identify(delivery).id == "signed"
