"""The door for forges, over real HTTP: what it refuses, what it keeps, and what comes of it."""

from __future__ import annotations

import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from server.store.migrations import migrate
from server.webhooks import SOURCES
from tests.conftest import with_database
from tests.service import Service, in_loop, start_service
from tests.webhooks import a_payload, encoded, github_headers, gitlab_headers

SECRET = "a github secret"
OLD_SECRET = "the one before"
SIGNING = "whsec_" + base64.b64encode(b"s" * 32).decode()
BODY = encoded(a_payload("github/pull_request.opened"))


@pytest.fixture(scope="module")
def door(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, template_dsn: str
) -> Iterator[Service]:
    """A service with secrets for both forges."""
    import asyncpg

    async def make() -> None:
        connection = await asyncpg.connect(admin_dsn)
        await connection.execute("CREATE DATABASE prpm_test_webhooks")
        await connection.close()

    in_loop(make())
    dsn = with_database(admin_dsn, "prpm_test_webhooks")
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("webhooks"),
        PRPM_GITHUB_WEBHOOK_SECRET=f"{SECRET}, {OLD_SECRET}",
        PRPM_GITLAB_SIGNING_SECRET=SIGNING,
        PRPM_GITLAB_WEBHOOK_SECRET="a gitlab token",
    )


def deliver(service: Service, body: bytes = BODY, *, source: str = "github", **headers: str):
    """As GitHub would, with headers replaced."""
    signed = github_headers(body, secret=SECRET) | headers
    as_sent = {name: value.encode() for name, value in signed.items()}
    return service.visitor().post(f"/webhooks/{source}", content=body, headers=as_sent)


def kept(service: Service, delivery: str) -> list[dict]:
    rows = service.fetch("SELECT * FROM deliveries WHERE delivery_id = $1", delivery)
    return [dict(row) for row in rows]


def ended(service: Service, delivery: str) -> dict:
    """The delivery once a worker has handled it."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        (row,) = kept(service, delivery)
        if row["state"] != "received":
            return row
        time.sleep(0.02)
    raise AssertionError(row)


def test_door__a_signed_delivery_is_kept_as_it_came_and_handled(door: Service):
    answer = deliver(door, **{"X-GitHub-Delivery": "first"})

    assert (answer.status_code, answer.json()) == (202, {"accepted": True})
    row = ended(door, "first")
    assert (row["source"], row["event"], row["body"]) == ("github", "pull_request", BODY)
    assert (row["state"], row["reason"]) == ("ignored", "No account is linked to this repository.")


@pytest.mark.parametrize(
    ("case", "headers"),
    [
        ("W1 none", {"X-Hub-Signature-256": ""}),
        ("W2 of another secret", {"X-Hub-Signature-256": github_headers(BODY, secret="x")["X-Hub-Signature-256"]}),
        ("W4 long", {"X-Hub-Signature-256": "sha256=" + "a" * 10_000}),
        ("W4 not ASCII", {"X-Hub-Signature-256": "sha256=é"}),
    ],
)
def test_door__bad_signatures_are_a_401_in_the_same_words_and_nothing_is_kept(
    door: Service, case: str, headers: dict[str, str]
):
    before = door.fetch("SELECT COUNT(*) FROM deliveries")

    answer = deliver(door, **headers)

    assert answer.status_code == 401, case
    assert answer.json() == {
        "error": "The delivery's signature does not hold. Compare the webhook's secret with the one that is set here.",
        "code": "bad_signature",
    }
    assert door.fetch("SELECT COUNT(*) FROM deliveries") == before


def test_door__W4_a_signature_header_that_came_twice_is_a_401(door: Service):
    headers = list(github_headers(BODY, secret=SECRET).items())
    headers.append(("X-Hub-Signature-256", "sha256=" + "0" * 64))

    answer = door.visitor().post("/webhooks/github", content=BODY, headers=headers)

    assert answer.status_code == 401


def test_door__W9_the_secret_before_holds_as_long_as_it_is_set(door: Service):
    answer = door.visitor().post(
        "/webhooks/github", content=BODY, headers=github_headers(BODY, secret=OLD_SECRET, delivery="old secret")
    )

    assert answer.status_code == 202


def test_door__W5_without_a_secret_the_address_is_not_there(service: Service):
    answer = service.visitor().post("/webhooks/github", content=BODY, headers=github_headers(BODY, secret=""))

    assert (answer.status_code, answer.json()["code"]) == (404, "not_configured")
    assert service.fetch("SELECT id FROM deliveries") == []


@pytest.mark.parametrize("source", ["bitbucket", "_signatures", "..%2fgithub", "github%00"])
def test_door__an_unknown_source_is_a_404(door: Service, source: str):
    assert deliver(door, source=source).status_code == 404


def test_door__W6_the_same_delivery_again_is_accepted_and_kept_once(door: Service):
    headers = {"X-GitHub-Delivery": "again"}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: deliver(door, **headers).status_code, range(8)))

    assert answers == [202] * 8
    assert len(kept(door, "again")) == 1


def test_door__one_that_had_failed_is_taken_up_when_it_comes_again(door: Service):
    deliver(door, **{"X-GitHub-Delivery": "failed before"})
    ended(door, "failed before")
    door.fetch("UPDATE deliveries SET state = 'failed' WHERE delivery_id = 'failed before'")

    deliver(door, **{"X-GitHub-Delivery": "failed before"})

    assert ended(door, "failed before")["state"] == "ignored"


@pytest.mark.parametrize(
    ("content_type", "words"),
    [
        ("text/plain", "Send JSON"),
        ("", "Send JSON"),
        ("application/json; charset=utf-16", "Send JSON"),
        ("application/x-www-form-urlencoded", "Set the webhook's content type to application/json"),
    ],
)
def test_door__W10_other_content_types_are_a_415(door: Service, content_type: str, words: str):
    answer = deliver(door, **{"Content-Type": content_type})

    assert answer.status_code == 415
    assert answer.json()["error"].startswith(words)


def test_door__W10_no_content_type_at_all_is_a_415(door: Service):
    headers = github_headers(BODY, secret=SECRET)
    del headers["Content-Type"]

    assert door.visitor().post("/webhooks/github", content=BODY, headers=headers).status_code == 415


def test_door__W11_huge_bodies_are_a_413_and_are_not_held(door: Service):
    def pieces() -> Iterator[bytes]:
        for _ in range(480):
            yield bytes(65_536)

    process = psutil.Process(door.api_pid)
    deliver(door)
    before = process.memory_info().rss
    headers = github_headers(b"", secret=SECRET)

    for length in ({}, {"Content-Length": str(480 * 65_536)}):
        with contextlib.suppress(httpx.WriteError):  # the connection may end while we still send
            answer = door.visitor().post("/webhooks/github", content=pieces(), headers=headers | length)
            assert answer.status_code == 413

    # A body of 11 MB may be read before it is known to be too large.
    assert process.memory_info().rss - before < 24 * 2**20


def test_door__W12_a_packed_body_is_a_415(door: Service):
    assert deliver(door, **{"Content-Encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"7", b"NaN", b"\xef\xbb\xbf{}", b"\xff\x00", b'{"action": "opened"', b"[" * 100_000]
)
def test_door__W13_W14_signed_rubbish_is_accepted_and_marked_invalid(door: Service, body: bytes):
    name = f"rubbish {body[:12].hex()} {len(body)}"

    answer = deliver(door, body, **{"X-GitHub-Delivery": name})

    assert answer.status_code == 202
    row = ended(door, name)
    assert row["state"] == "invalid"
    assert row["reason"].startswith("The payload ")


@pytest.mark.parametrize(
    ("case", "body"),
    [
        ("a million keys", b"{" + b",".join(b'"%d":0' % n for n in range(1_000_000)) + b"}"),
        ("one key of 5 MB", b'{"' + b"k" * 5_000_000 + b'": 0}'),
        ("nested 1,000,000 deep", b"[" * 1_000_000 + b"]" * 1_000_000),
    ],
)
def test_door__W14_hostile_but_signed_bodies_are_kept_and_hurt_nobody(door: Service, case: str, body: bytes):
    answer = deliver(door, body, **{"X-GitHub-Delivery": f"W14 {case}"})

    assert answer.status_code == 202
    assert ended(door, f"W14 {case}")["state"] == "invalid"
    assert deliver(door).status_code == 202


def test_door__W15_of_a_key_that_stands_there_twice_the_last_counts_for_its_rate_too(door: Service):
    body = encoded(a_payload("github/pull_request.opened", installation={"id": 1}))
    doubled = body[:-1] + b', "installation": {"id": 2}}'

    assert SOURCES["github"].about(doubled) == "installation 2"
    assert deliver(door, doubled, **{"X-GitHub-Delivery": "W15"}).status_code == 202


@pytest.mark.parametrize(
    "title", ["a\u0000b", "\ud800", "\u202egnp.exe", "\U0001f600", "\x1b[31mred", "x" * 100_000], ids=ascii
)
def test_door__W16_odd_characters_are_kept_byte_by_byte_and_handled(door: Service, title: str):
    payload = a_payload("github/pull_request.opened", pull_request__title=title)
    name = f"W16 {ascii(title)[:20]}"

    answer = deliver(door, encoded(payload), **{"X-GitHub-Delivery": name})

    assert answer.status_code == 202
    row = ended(door, name)
    assert row["body"] == encoded(payload)
    # A lone surrogate is no text in JSON; what stands in a member that nobody reads is passed by.
    assert row["state"] in ("ignored", "invalid")


@pytest.mark.parametrize("event", ["ping", "sponsorship", "", "pull_request\u00a0"])
def test_door__W17_what_starts_nothing_is_accepted(door: Service, event: str):
    name = f"event-{event.encode().hex()}"

    answer = deliver(door, **{"X-GitHub-Event": event, "X-GitHub-Delivery": name})

    assert answer.status_code == 202
    assert ended(door, name)["state"] in ("ignored", "handled")


def test_door__W21_gitlab_is_held_to_its_signature(door: Service):
    body = encoded(a_payload("gitlab/merge_request"))
    signed = gitlab_headers(body, signing=SIGNING, delivery="gitlab one")
    token_alone = gitlab_headers(body, token="a gitlab token")

    def send(headers: dict[str, str]) -> int:
        return door.visitor().post("/webhooks/gitlab", content=body, headers=headers).status_code

    assert send(signed) == 202
    assert send(token_alone) == 401
    assert send(signed | {"webhook-signature": "v1,AAAA", "X-Gitlab-Token": "a gitlab token"}) == 401
    assert kept(door, "gitlab one")[0]["source"] == "gitlab"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/webhooks/github", 405),
        ("PUT", "/webhooks/github", 405),
        ("DELETE", "/webhooks/github", 405),
        ("POST", "/webhooks", 404),
        ("PATCH", "/webhooks/github", 405),
        ("POST", "/webhooks/github/extra/parts", 404),
        ("POST", "/WEBHOOKS/github", 404),
    ],
)
def test_door__W22_other_methods_and_paths(door: Service, method: str, path: str, status: int):
    answer = door.visitor().request(method, path, content=BODY, headers=github_headers(BODY, secret=SECRET))

    assert answer.status_code == status


@pytest.mark.parametrize("path", ["/webhooks/github/", "//webhooks/github", "/webhooks//github", "/webhooks/github//"])
def test_door__W22_slashes_too_many_lead_to_the_same_door(door: Service, path: str):
    def send(secret: str) -> int:
        headers = github_headers(BODY, secret=secret)
        return door.visitor().post(f"{door.url}{path}", content=BODY, headers=headers).status_code

    assert (send(SECRET), send("another")) == (202, 401)


def test_door__logs_hold_neither_bodies_nor_secrets(door: Service):
    marked = encoded(a_payload("github/pull_request.opened", pull_request__title="canary-in-a-title"))

    deliver(door, marked, **{"X-GitHub-Delivery": "canary"})
    ended(door, "canary")

    logs = "".join(path.read_text() for path in door.folder.glob("*.log"))
    assert "delivery kept" in logs
    for secret in (SECRET, OLD_SECRET, SIGNING, "a gitlab token", "canary-in-a-title"):
        assert secret not in logs


def operate(door: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "server.operator.main", "deliveries", *arguments],
        env={**os.environ, **door.environment}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def numbers(listed: subprocess.CompletedProcess[str]) -> list[int]:
    assert listed.returncode == 0, listed.stderr
    return [int(line.split()[0]) for line in listed.stdout.splitlines()]


def test_deliveries__an_operator_sees_and_replays_them(door: Service):
    deliver(door, **{"X-GitHub-Delivery": "for the operator"})
    number = ended(door, "for the operator")["id"]

    listed = operate(door, "--state", "ignored")
    shown = operate(door, "show", str(number))
    body = operate(door, "show", str(number), "--body")
    replayed = operate(door, "replay", str(number))

    assert number in numbers(listed)
    assert [line.split(maxsplit=1)[1] for line in shown.stdout.splitlines() if line.startswith(("event", "state"))] == [
        "pull_request", "ignored",
    ]  # fmt: skip
    assert body.stdout.encode() == BODY
    assert (replayed.returncode, replayed.stdout) == (0, "It is handled again within a second.\n")
    assert ended(door, "for the operator")["attempts"] == 1


def test_deliveries__those_that_failed_are_listed_with_their_reason_and_replayed_together(door: Service):
    for name in ("failed 1", "failed 2"):
        deliver(door, **{"X-GitHub-Delivery": name})
        ended(door, name)
    door.fetch(
        "UPDATE deliveries SET state = 'failed', reason = 'GitHub does not answer.' WHERE delivery_id LIKE 'failed _'"
    )

    listed = operate(door, "--failed")
    of_gitlab = operate(door, "--failed", "--source", "gitlab")
    replayed = operate(door, "replay", "--all-failed")

    assert len(numbers(listed)) == 2
    assert all(line.endswith("failed  GitHub does not answer.") for line in listed.stdout.splitlines())
    assert (of_gitlab.stdout, of_gitlab.stderr) == ("", "No deliveries.\n")
    assert replayed.stdout == "2 deliveries are handled again within a second.\n"
    assert [ended(door, name)["state"] for name in ("failed 1", "failed 2")] == ["ignored"] * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["replay", "999999999"], "There is no delivery 999999999 that has ended."),
        (["replay"], "Say which: their numbers, or --all-failed."),
        (["show", "999999999"], "There is no delivery 999999999."),
        (["--failed", "--state", "handled"], "--failed and --state name two different states"),
    ],
)
def test_deliveries__an_operators_mistake_is_told_in_a_sentence(door: Service, arguments: list[str], words: str):
    answer = operate(door, *arguments)

    assert answer.returncode == 2
    assert words in answer.stderr
    assert "Traceback" not in answer.stderr
