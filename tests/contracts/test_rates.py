"""What every count of rates keeps to: the one of a process, and the one that processes share in Redis."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator

import pytest

from server.domain.errors import TooMany
from server.services.limiting import Doorkeeper, RateLimits
from server.services.rates import Ask, Bucket, RateBook, Told
from server.tasks.wakeups import connect_redis


class Clock:
    """Moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["local", "shared"])
async def book(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[RateBook]:
    if request.param == "local":
        yield RateBook(clock=clock)
        return
    redis = connect_redis(request.getfixturevalue("redis_url"))
    yield RateBook(redis, prefix=a_prefix(), clock=clock)
    await redis.aclose(close_connection_pool=True)


def a_prefix() -> str:
    return f"{{{secrets.token_hex(4)}}}:"


async def take(book: RateBook, *buckets: Bucket, is_queued: bool = False) -> Told:
    return await book.ask(Ask(buckets=buckets, is_queued=is_queued))


async def test_bucket__a_minutes_worth_goes_through_at_once_and_then_evenly(book: RateBook, clock: Clock):
    bucket = Bucket("one", 6)

    at_once = [await take(book, bucket) for _ in range(6)]
    refused = await take(book, bucket)
    clock.now += 9.9
    too_early = await take(book, bucket)
    clock.now += 0.1
    in_time = await take(book, bucket)
    next_one = await take(book, bucket)

    assert at_once == [Told(0.0, 0)] * 6
    assert refused == (pytest.approx(10.0), 1)
    assert too_early == (pytest.approx(0.1), 1)
    assert in_time == (0.0, 0)
    assert next_one.seconds == pytest.approx(10.0)


async def test_bucket__that_rested_holds_a_minutes_worth_and_no_more(book: RateBook, clock: Clock):
    bucket = Bucket("one", 6)
    await take(book, bucket)
    clock.now += 3600

    told = [await take(book, bucket) for _ in range(7)]

    assert [one.place for one in told] == [0] * 6 + [1]


async def test_buckets__of_a_refused_ask_keep_what_they_have(book: RateBook, clock: Clock):
    small, large = Bucket("token", 2), Bucket("address", 5)

    told = [await take(book, small, large) for _ in range(20)]
    by_others = [await take(book, large) for _ in range(4)]

    assert [one.place for one in told] == [0, 0] + [1] * 18
    assert [one.place for one in by_others] == [0, 0, 0, 1]


async def test_buckets__the_emptiest_says_how_long(book: RateBook, clock: Clock):
    quick, slow = Bucket("quick", 60), Bucket("slow", 1)
    for _ in range(60):
        await take(book, quick)
    await take(book, slow)

    assert await take(book, quick, slow) == (pytest.approx(60.0), 2)


async def test_queue__nobody_is_refused_and_each_has_a_turn_of_its_own(book: RateBook, clock: Clock):
    bucket = Bucket("hook", 6)

    turns = [(await take(book, bucket, is_queued=True)).seconds for _ in range(10)]
    clock.now += 1000

    assert turns == pytest.approx([0.0] * 6 + [10.0, 20.0, 30.0, 40.0])
    assert (await take(book, bucket, is_queued=True)).seconds == 0.0


async def test_mark__who_has_it_takes_nothing_until_it_ends(book: RateBook, clock: Clock):
    bucket = Bucket("bad", 1)
    await book.ask(Ask(buckets=(), mark="good", mark_seconds=100))

    free = [await book.ask(Ask(buckets=(bucket,), free_by="good")) for _ in range(5)]
    others = [await book.ask(Ask(buckets=(bucket,), free_by="nobody")) for _ in range(2)]

    assert free == [Told(0.0, 0)] * 5
    assert [one.place for one in others] == [0, 1]


async def test_books__answer_alike_whatever_is_asked(redis_url: str, clock: Clock):
    redis = connect_redis(redis_url)
    chance = random.Random(7)  # noqa: S311 -- the same asks in each run
    shared, local = RateBook(redis, prefix=a_prefix(), clock=clock), RateBook(clock=clock)
    try:
        for _ in range(400):
            clock.now += chance.choice((0.0, 0.01, 1.5, 20.0))
            names = chance.sample("abc", k=chance.randint(1, 3))
            ask = Ask(
                buckets=tuple(Bucket(name, {"a": 3, "b": 7, "c": 600}[name]) for name in names),
                is_queued=chance.random() < 0.2,
            )
            one, other = await shared.ask(ask), await local.ask(ask)
            assert one == (pytest.approx(other.seconds, abs=1e-5), other.place)
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_book__two_processes_count_together_and_at_once_is_no_way_round(redis_url: str):
    redis = connect_redis(redis_url)
    prefix = a_prefix()
    books = [RateBook(redis, prefix=prefix) for _ in range(2)]
    try:
        told = await asyncio.gather(*(take(books[number % 2], Bucket("one", 30)) for number in range(500)))

        assert sum(one.place == 0 for one in told) == 30
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_book__a_flood_costs_few_calls_and_each_key_ends_by_itself(redis_url: str):
    redis = connect_redis(redis_url)
    prefix = a_prefix()
    book = RateBook(redis, prefix=prefix)
    try:
        before = await calls_of(redis)
        await asyncio.gather(
            *(take(book, Bucket(f"token {number}", 30), Bucket("address", 900)) for number in range(400))
        )
        after = await calls_of(redis)

        keys = [key async for key in redis.scan_iter(match=f"{prefix}*", count=1000)]
        assert len(keys) == 401
        assert after - before <= 5
        # -2: it has ended since. -1 would be: never.
        assert all([await redis.ttl(key) in {-2, *range(62)} for key in keys])
    finally:
        await redis.aclose(close_connection_pool=True)


async def calls_of(redis) -> int:
    stats = await redis.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha"))


async def test_book__without_redis_each_process_counts_alone_and_nobody_waits():
    redis = connect_redis("redis://127.0.0.1:1", attempts=0)
    book = RateBook(redis)
    try:
        told = await asyncio.gather(*(take(book, Bucket("one", 30)) for _ in range(100)))

        assert sum(one.place == 0 for one in told) == 30
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_deliveries__of_one_sender_at_two_processes_wait_as_if_they_were_one(redis_url: str):
    """The count is told behind the answers' back, so that no delivery waits for it."""
    redis = connect_redis(redis_url)
    prefix = a_prefix()
    limits = RateLimits(deliveries=60)
    doors = [Doorkeeper(RateBook(redis, prefix=prefix), limits) for _ in range(2)]
    turns: list[float] = []
    try:
        for number in range(80):
            turns.append(doors[number % 2].delivery("a hook", address="192.0.2.1"))
            await asyncio.sleep(0.01)

        assert turns[:58] == [0.0] * 58
        assert turns[60:] == pytest.approx([number + 1 for number in range(20)], abs=2.1)
        assert doors[0].delivery("another hook", address="192.0.2.1") == 0.0
    finally:
        for door in doors:
            await door.aclose()
        await redis.aclose(close_connection_pool=True)


async def test_deliveries__a_good_address_is_known_to_all_processes_and_when_redis_forgets(redis_url: str):
    redis = connect_redis(redis_url)
    prefix = a_prefix()
    doors = [Doorkeeper(RateBook(redis, prefix=prefix), RateLimits(bad_deliveries=2)) for _ in range(2)]
    one, other = doors
    try:
        one.delivery("a hook", address="192.0.2.1")
        await asyncio.sleep(0.1)
        for _ in range(10):
            await other.bad_delivery("192.0.2.1")
        other.check_deliverer("192.0.2.1")
        await redis.delete(*[key async for key in redis.scan_iter(match=f"{prefix}*")])
        for _ in range(10):
            await one.bad_delivery("192.0.2.1")
        one.check_deliverer("192.0.2.1")

        for _ in range(2):
            await other.bad_delivery("192.0.2.9")
        with pytest.raises(TooMany):
            await other.bad_delivery("192.0.2.9")
        with pytest.raises(TooMany):
            other.check_deliverer("192.0.2.9")
    finally:
        for door in doors:
            await door.aclose()
        await redis.aclose(close_connection_pool=True)
