"""How often the doors open, over real HTTP; the test is the proxy that says from where somebody comes."""

from __future__ import annotations

import base64
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.service import Service, in_loop, start_service
from tests.standins.issuer import StandInIssuer
from tests.webhooks import a_payload, encoded, github_headers, gitlab_headers

# So few that a slow machine gives none back meanwhile.
SUBMITS, EXCHANGES, REQUESTS, DELIVERIES, BAD_DELIVERIES = 3, 3, 4, 4, 3
SECRET = "a github secret"
SIGNING = "whsec_" + base64.b64encode(b"s" * 32).decode()
OPENED = a_payload("github/pull_request.opened")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A service with small rates."""

    service: Service
    issuer: StandInIssuer

    def submit(self, token: str, *, address: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": address}
        with self.service.visitor() as client:
            return client.post("/api/v1/test-jobs/run", json={"package_id": "@no/such"}, headers=headers)

    def exchange(self, *, address: str, **claims: object) -> httpx.Response:
        token = self.issuer.token(aud=self.service.url, **claims)
        with self.service.visitor() as client:
            return client.post(
                "/api/v1/auth/oidc/exchange", json={"token": token}, headers={"X-Forwarded-For": address}
            )

    def deliver(
        self, payload: object = None, *, address: str, secret: str = SECRET, delivery: str | None = None
    ) -> httpx.Response:
        """As GitHub would, from this address."""
        body = encoded(OPENED if payload is None else payload)
        headers = github_headers(body, secret=secret, delivery=delivery) | {"X-Forwarded-For": address}
        with self.service.visitor() as client:
            return client.post("/webhooks/github", content=body, headers=headers)

    def the(self, delivery: str) -> dict:
        (row,) = self.service.fetch(
            "SELECT state, EXTRACT(EPOCH FROM next_at - received_at)::FLOAT8 AS turn"
            " FROM deliveries WHERE delivery_id = $1",
            delivery,
        )
        return dict(row)


@pytest.fixture(scope="module")
def site(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    with StandInIssuer().running() as issuer:
        for service in start_service(
            dsn=dsn,
            redis_url=redis_url,
            folder=tmp_path_factory.mktemp("rates"),
            PRPM_TRUSTED_PROXIES="127.0.0.1",
            PRPM_OIDC_ISSUERS=f"github={issuer.url}",
            PRPM_SUBMITS_PER_MINUTE=str(SUBMITS),
            PRPM_EXCHANGES_PER_MINUTE=str(EXCHANGES),
            PRPM_REQUESTS_PER_MINUTE=str(REQUESTS),
            PRPM_DELIVERIES_PER_MINUTE=str(DELIVERIES),
            PRPM_BAD_DELIVERIES_PER_MINUTE=str(BAD_DELIVERIES),
            PRPM_GITHUB_WEBHOOK_SECRET=SECRET,
            PRPM_GITLAB_SIGNING_SECRET=SIGNING,
        ):
            yield Site(service=service, issuer=issuer)


def an_address() -> str:
    return f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"


def an_installation(number: int) -> dict:
    return a_payload("github/pull_request.opened") | {"installation": {"id": number}}


def assert_told_to_wait(answer: httpx.Response, *, words: str, most_seconds: int) -> None:
    assert answer.status_code == 429
    assert answer.json()["code"] == "rate_limited"
    assert answer.json()["error"].startswith(words)
    assert 1 <= int(answer.headers["retry-after"]) <= most_seconds
    assert answer.json()["error"].endswith(f"Try again in {answer.headers['retry-after']} s.")


def test_submits__of_one_token_are_a_429_beyond_its_rate_and_another_token_is_not(site: Site):
    address = an_address()
    alice, bob = site.service.an_account(), site.service.an_account()

    answers = [site.submit(alice.token, address=address) for _ in range(SUBMITS + 2)]

    assert [answer.status_code for answer in answers] == [404] * SUBMITS + [429] * 2
    assert_told_to_wait(answers[-1], words="More submits came with this token than", most_seconds=60 // SUBMITS)
    assert site.submit(alice.token, address=an_address()).status_code == 429  # wherever it is shown
    assert site.submit(bob.token, address=address).status_code == 404
    assert site.service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id) == []


def test_submits__of_one_address_are_a_429_beyond_its_rate_and_from_another_they_are_not(site: Site):
    address = an_address()
    accounts = [site.service.an_account() for _ in range(REQUESTS + 1)]

    answers = [site.submit(account.token, address=address) for account in accounts]

    assert [answer.status_code for answer in answers] == [404] * REQUESTS + [429]
    assert_told_to_wait(answers[-1], words="More submits came with your address than", most_seconds=60 // REQUESTS)
    assert site.submit(accounts[-1].token, address=an_address()).status_code == 404


def test_submits__a_retry_is_one(site: Site):
    alice = site.service.an_account()

    answers = [alice.client.post(f"/api/v1/test-jobs/{uuid.uuid4()}/retry").status_code for _ in range(SUBMITS + 1)]

    assert answers == [404] * SUBMITS + [429]


def test_exchanges__of_one_repository_are_a_429_beyond_its_rate_and_of_another_they_are_not(site: Site):
    address = an_address()

    answers = [site.exchange(address=address, repository_id="7100") for _ in range(EXCHANGES + 1)]

    assert [answer.status_code for answer in answers] == [403] * EXCHANGES + [429]
    assert_told_to_wait(answers[-1], words="More tokens of this repository were exchanged", most_seconds=20)
    assert site.exchange(address=address, repository_id="7101").status_code == 403


def test_exchanges__of_one_address_are_a_429_beyond_its_rate(site: Site):
    address = an_address()

    answers = [site.exchange(address=address, repository_id=str(7200 + n)) for n in range(REQUESTS + 1)]

    assert [answer.status_code for answer in answers] == [403] * REQUESTS + [429]
    assert_told_to_wait(answers[-1], words="More tokens of your address were exchanged", most_seconds=60 // REQUESTS)


def test_deliveries__that_are_not_authentic_are_a_429_after_a_few_and_nothing_else_of_the_address_is(site: Site):
    address = an_address()

    answers = [site.deliver(address=address, secret="another") for _ in range(BAD_DELIVERIES + 2)]

    assert [answer.status_code for answer in answers] == [401] * BAD_DELIVERIES + [429] * 2
    assert_told_to_wait(
        answers[-1], words="Too many deliveries of your address were not signed", most_seconds=60 // BAD_DELIVERIES
    )
    # Guessing is counted apart: 60 bad tokens would be needed to close the other doors.
    assert site.submit(site.service.an_account().token, address=address).status_code == 404
    assert site.deliver(address=an_address()).status_code == 202


def test_deliveries__to_an_address_that_is_not_set_up_count_as_well(site: Site):
    address = an_address()

    with site.service.visitor() as client:
        answers = [
            client.post("/webhooks/no-such", json={}, headers={"X-Forwarded-For": address}).status_code
            for _ in range(BAD_DELIVERIES + 1)
        ]

    assert answers == [404] * BAD_DELIVERIES + [429]


def test_deliveries__authentic_ones_come_through_whatever_else_their_address_sends(site: Site):
    """A forge delivers for all of its users from a few addresses, and one may have a wrong secret on purpose."""
    forge = an_address()
    assert site.deliver(address=forge).status_code == 202

    by_another = [site.deliver(address=forge, secret="another").status_code for _ in range(BAD_DELIVERIES * 4)]

    assert by_another == [401] * len(by_another)
    assert site.deliver(address=forge).status_code == 202


def test_deliveries__a_flood_of_wrong_ones_closes_no_other_door(site: Site):
    """More than the bad tokens a minute that an address may send, which is 60."""
    forge = an_address()
    site.deliver(address=forge)
    for _ in range(70):
        site.deliver({"short": 1}, address=forge, secret="another")

    assert site.deliver(address=forge).status_code == 202
    assert site.submit(site.service.an_account().token, address=forge).status_code == 404


def test_deliveries__beyond_the_rate_are_accepted_and_handled_later_and_others_at_once(site: Site):
    """GitLab disables webhooks that answer 4xx."""
    address = an_address()
    flooding, other = (uuid.uuid4().int % 10**9 for _ in range(2))

    answers = [
        site.deliver(an_installation(flooding), address=address, delivery=f"{flooding}-{n}").status_code
        for n in range(DELIVERIES + 3)
    ]
    answers.append(site.deliver(an_installation(other), address=address, delivery=f"{other}").status_code)

    assert answers == [202] * (DELIVERIES + 4)
    turns = [site.the(f"{flooding}-{n}")["turn"] for n in range(DELIVERIES + 3)]
    assert turns[:DELIVERIES] == pytest.approx([0.0] * DELIVERIES, abs=0.01)
    expected = [60 / DELIVERIES * (n + 1) for n in range(3)]
    for turn, later in zip(turns[DELIVERIES:], expected, strict=True):
        assert later - 12 < turn <= later  # as much as time went by meanwhile
    deadline = time.monotonic() + 10
    while (state := site.the(str(other))["state"]) == "received":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert state == "ignored"
    assert site.the(f"{flooding}-{DELIVERIES + 2}")["state"] == "received"


def test_deliveries__of_a_gitlab_project_have_a_rate_of_their_own(site: Site):
    address = an_address()
    busy, quiet = (uuid.uuid4().int % 10**9 for _ in range(2))

    def deliver(project: int, name: str) -> int:
        body = encoded(a_payload("gitlab/merge_request", project__id=project))
        headers = gitlab_headers(body, signing=SIGNING, delivery=name) | {"X-Forwarded-For": address}
        with site.service.visitor() as client:
            return client.post("/webhooks/gitlab", content=body, headers=headers).status_code

    answers = Counter(deliver(busy, f"{busy}-{n}") for n in range(DELIVERIES + 1))
    answers[deliver(quiet, str(quiet))] += 1

    assert answers == {202: DELIVERIES + 2}
    assert site.the(f"{busy}-{DELIVERIES}")["turn"] > 1
    assert site.the(str(quiet))["turn"] == pytest.approx(0.0, abs=0.01)
