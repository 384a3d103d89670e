"""A16: who guesses tokens is told to wait, at every door, and nobody else is."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import httpx
import pytest

from server.api.guessing import GuessBook, read_proxies
from server.domain.errors import InvalidRequest
from server.store.migrations import migrate
from server.tasks.wakeups import connect_redis
from tests.conftest import _execute, with_database
from tests.service import Account, Service, in_loop, start_service

MOST = 5


@pytest.fixture(scope="module")
def guarded(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that bears five guesses a minute; the test is the proxy that says from where."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    yield from start_service(
        dsn=dsn,
        redis_url=redis_url,
        folder=tmp_path_factory.mktemp("guarded"),
        PRPM_GUESSES_PER_MINUTE=str(MOST),
        PRPM_TRUSTED_PROXIES="127.0.0.1",
    )


def an_address() -> str:
    return f"10.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}.{uuid.uuid4().int % 250}"


def guess(service: Service, door: str, *, address: str, **headers: str) -> httpx.Response:
    token = "prpm_" + uuid.uuid4().hex
    from_there = {"X-Forwarded-For": address, **headers}
    with service.visitor() as client:
        if door == "login":
            return client.post("/login", data={"unverified_token": token}, headers=from_there)
        if door == "exchange":
            return client.post("/api/v1/auth/oidc/exchange", json={"token": token}, headers=from_there)
        if door == "session":
            return client.get("/jobs/x", headers=from_there | {"Cookie": f"__Host-prpm_session={token}"})
        from_there["Authorization"] = f"Bearer {token}"
        if door == "submit":
            return client.post("/api/v1/test-jobs/run", json={"package_id": "@demo/hello"}, headers=from_there)
        return client.get("/api/v1/user", headers=from_there)


@pytest.mark.parametrize("door", ["user", "submit", "exchange", "login", "session"])
def test_guesses__A16_are_a_429_after_a_few_at_each_door(guarded: Service, door: str):
    address = an_address()

    answers = [guess(guarded, door, address=address) for _ in range(MOST + 3)]

    assert [answer.status_code for answer in answers] == [401] * MOST + [429] * 3
    assert answers[-1].json()["code"] == "too_many_guesses"
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 61
    assert answers[-1].headers["x-content-type-options"] == "nosniff"
    # Every door is closed to this address, and no door to another.
    assert guess(guarded, "user", address=address).status_code == 429
    assert guess(guarded, "user", address=an_address()).status_code == 401


def test_guesses__A16_at_once_are_no_way_round(guarded: Service):
    address = an_address()

    async def all_at_once() -> list[int]:
        async with httpx.AsyncClient(base_url=guarded.url, trust_env=False, timeout=15) as client:
            answers = await asyncio.gather(
                *(
                    client.get(
                        "/api/v1/user",
                        headers={"X-Forwarded-For": address, "Authorization": f"Bearer prpm_{uuid.uuid4().hex}"},
                    )
                    for _ in range(40)
                )
            )
        return [answer.status_code for answer in answers]

    assert sorted(in_loop(all_at_once())) == [401] * MOST + [429] * 35


def test_guesses__A16_of_others_at_the_same_address_do_not_stop_who_showed_a_good_token(guarded: Service):
    address, alice, bob = an_address(), guarded.an_account(), guarded.an_account()

    def ask(person: Account) -> int:
        return person.client.get("/api/v1/user", headers={"X-Forwarded-For": address}).status_code

    assert ask(alice) == 200
    for _ in range(MOST + 1):
        guess(guarded, "user", address=address)

    assert ask(alice) == 200
    assert ask(bob) == 429
    # One that was good and is no more is a guess like any other.
    guarded.fetch("UPDATE access_tokens SET is_active = FALSE WHERE user_id = $1", alice.id)
    assert [ask(alice), ask(alice)] == [429, 429]


def test_guesses__A16_good_requests_never_count(guarded: Service):
    address, alice = an_address(), guarded.an_account()
    headers = {"X-Forwarded-For": address}

    for _ in range(MOST * 3):
        assert alice.client.get("/api/v1/user", headers=headers).status_code == 200
        assert alice.client.get(f"/api/v1/test-jobs/{uuid.uuid4()}", headers=headers).status_code == 404
    with guarded.visitor() as client:
        for _ in range(MOST * 3):
            assert client.get("/jobs/x", headers=headers).status_code == 401
    assert guess(guarded, "user", address=address).status_code == 401


def a_scope(client: str | None, *forwarded: str) -> dict:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return {"type": "http", "client": (client, 1) if client else None, "headers": headers}


ADDRESSES = [
    # who connects, X-Forwarded-For, whose guess it is
    ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # not a proxy of ours: its word does not count
    ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # what stands before may be made up
    ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
    ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),  # two proxies of ours
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["unknown"], "10.0.0.1"),
    ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
    ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
    ("::ffff:203.0.113.9", [], "203.0.113.9"),
    ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
    (None, ["198.51.100.1"], "local"),
]


@pytest.mark.parametrize(("client", "forwarded", "address"), ADDRESSES)
def test_address__is_the_one_that_nobody_can_make_up(client: str | None, forwarded: list[str], address: str):
    book = GuessBook(MOST, proxies=read_proxies("10.0.0.0/8"))

    assert book.address_of(a_scope(client, *forwarded)) == address


def test_proxies__what_is_no_address_is_refused_at_the_start():
    for text in ("nonsense", "10.0.0.0/99", "10.0.0.1/8", "*"):
        with pytest.raises(InvalidRequest, match="PRPM_TRUSTED_PROXIES"):
            read_proxies(text)


async def test_count__is_shared_by_processes_and_starts_anew_after_a_minute(redis_url: str):
    now = 100.0
    redis = connect_redis(redis_url)
    address = an_address()
    books = [GuessBook(MOST, clock=lambda: now) for _ in range(2)]
    try:
        for book in books:
            book.share(redis)
        told = [await books[number % 2].was_bad(address, None) for number in range(MOST + 1)]

        assert told[:MOST] == [0.0] * MOST
        assert 50 < told[MOST] <= 60
        assert await books[0].was_bad(address, None) > 0  # the other one learns of it with its own next guess
        assert books[1].seconds_blocked(address, None) > 0
        now += 61
        assert books[1].seconds_blocked(address, None) == 0
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_count__without_redis_is_this_processes_own():
    now = 100.0
    redis = connect_redis("redis://127.0.0.1:1", attempts=0)
    book = GuessBook(MOST, clock=lambda: now)
    book.share(redis)
    try:
        told = [await book.was_bad("192.0.2.1", None) for _ in range(MOST + 1)]
        assert told == [0.0] * MOST + [60.0]
        assert await book.was_bad("192.0.2.2", None) == 0
        now += 61
        assert await book.was_bad("192.0.2.1", None) == 0
    finally:
        await redis.aclose(close_connection_pool=True)
