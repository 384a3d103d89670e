"""What every account of calls keeps to: the one of a process, and the one that workers share in Redis."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import AsyncIterator

import pytest

from evals.limits import Ask, Grant, Limits, LocalLimits, Report, Wait
from evals.models import Deployment
from server.services.limits import SharedLimits
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
async def limits(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[Limits]:
    account = LocalLimits(clock=clock) if request.param == "local" else a_shared(request, clock)
    yield account
    await account.aclose()


def a_shared(request: pytest.FixtureRequest, clock: Clock, *, prefix: str | None = None) -> SharedLimits:
    url: str = request.getfixturevalue("redis_url")
    return SharedLimits(connect_redis(url), prefix=prefix or f"{{{secrets.token_hex(4)}}}:", clock=clock)


def a_deployment(
    name: str = "one", *, max_in_flight: int = 50, rpm: int | None = None, tpm: int | None = None
) -> Deployment:
    return Deployment(id=name, backend="echo", model=name, price=None, max_in_flight=max_in_flight, rpm=rpm, tpm=tpm)


async def take(limits: Limits, *deployments: Deployment, tokens: int = 0) -> Grant | Wait:
    return await limits.take(Ask(deployments=deployments or (a_deployment(),), tokens=tokens, seconds=60.0))


async def granted(limits: Limits, *deployments: Deployment, tokens: int = 0) -> Grant:
    taken = await take(limits, *deployments, tokens=tokens)
    assert isinstance(taken, Grant), taken
    return taken


async def held_back(limits: Limits, *deployments: Deployment, tokens: int = 0) -> Wait:
    taken = await take(limits, *deployments, tokens=tokens)
    assert isinstance(taken, Wait), taken
    return taken


async def burst(limits: Limits, *deployments: Deployment, most: int = 200) -> list[Grant]:
    """Calls until there is no leave for another one."""
    grants: list[Grant] = []
    while len(grants) < most and isinstance(taken := await take(limits, *deployments), Grant):
        grants.append(taken)
    return grants


async def fail(limits: Limits, times: int) -> None:
    for _ in range(times):
        limits.give_back(await granted(limits), Report("failed"))


async def test_limits__first_calls_are_few_and_each_answer_makes_room_for_more(limits: Limits) -> None:
    first = await burst(limits)
    assert len(first) == 16
    assert (await held_back(limits)).why == "room"

    for grant in first:
        limits.give_back(grant, Report("answered"))

    assert len(await burst(limits)) == 48


async def test_limits__deployment_never_has_more_calls_than_its_limit(limits: Limits) -> None:
    small = a_deployment(max_in_flight=3)
    for _ in range(5):
        grants = await burst(limits, small)
        assert len(grants) == 3
        for grant in grants:
            limits.give_back(grant, Report("answered"))


async def test_limits__calls_are_spread_by_the_share_that_is_free(limits: Limits) -> None:
    large, small = a_deployment("large", max_in_flight=12), a_deployment("small", max_in_flight=4)

    grants = [await granted(limits, large, small) for _ in range(8)]

    assert [sum(g.deployment.id == name for g in grants) for name in ("large", "small")] == [6, 2]


async def test_limits__refusal_stops_all_calls_and_shows_the_rate(limits: Limits, clock: Clock) -> None:
    grants = await burst(limits)
    for grant in grants[10:]:
        limits.give_back(grant, Report("refused", pause_seconds=1.0))
    for grant in grants[:10]:
        limits.give_back(grant, Report("answered"))

    blocked = await held_back(limits)
    clock.now += 1.0
    leaving = []
    for _ in range(300):
        if isinstance(taken := await take(limits), Grant):
            limits.give_back(taken, Report("answered"))
            leaving.append(clock.now)
        clock.now += 0.01

    assert blocked == Wait(pytest.approx(1.0), "rate")
    # Ten were taken in the moment before: a little slower than that, and evenly.
    assert len(leaving) == pytest.approx(3 * 9.5, abs=2)
    assert min(b - a for a, b in itertools.pairwise(leaving)) > 0.09


async def test_limits__learned_rate_is_held_and_then_tried_upwards(limits: Limits, clock: Clock) -> None:
    for grant in (await burst(limits))[2:]:
        limits.give_back(grant, Report("refused", pause_seconds=1.0))

    async def calls_in_five_seconds() -> int:
        count = 0
        for _ in range(250):
            if isinstance(taken := await take(limits), Grant):
                limits.give_back(taken, Report("answered"))
                count += 1
            clock.now += 0.02
        return count

    await held_back(limits)
    clock.now += 1.0
    held = await calls_in_five_seconds()
    clock.now += 10.0
    assert await calls_in_five_seconds() > 2 * held


async def test_limits__long_pause_is_counted_by_the_minute(limits: Limits, clock: Clock) -> None:
    grants = await burst(limits)
    for grant in grants[12:]:
        limits.give_back(grant, Report("refused", pause_seconds=20.0))
    assert (await held_back(limits)).seconds == pytest.approx(20.0)
    clock.now += 20.0

    await granted(limits)

    # Twelve a minute is one in five seconds.
    assert (await held_back(limits)).seconds == pytest.approx(5.0, rel=0.1)


@pytest.mark.parametrize("rpm", [1, 6, 60])
async def test_limits__no_minute_has_more_requests_than_rpm(limits: Limits, clock: Clock, rpm: int) -> None:
    one = a_deployment(rpm=rpm)
    starts = []
    while clock.now < 1180:
        taken = await take(limits, one)
        if isinstance(taken, Grant):
            limits.give_back(taken, Report("answered"))
            starts.append(clock.now)
        else:
            clock.now += taken.seconds

    for start in starts:
        assert sum(start <= other < start + 60 for other in starts) <= max(rpm, 1)
    assert len(starts) >= rpm * 3 * 0.5


async def test_limits__tokens_are_reserved_and_corrected_by_what_was_used(limits: Limits) -> None:
    one = a_deployment(tpm=10_000)
    first = await granted(limits, one, tokens=900)
    assert (await held_back(limits, one, tokens=900)).why == "rate"

    limits.give_back(first, Report("answered", tokens=50))

    await granted(limits, one, tokens=900)


async def test_limits__request_larger_than_a_bucket_is_let_through_when_that_is_full(limits: Limits) -> None:
    one = a_deployment(tpm=1000)

    await granted(limits, one, tokens=5000)

    assert (await held_back(limits, one, tokens=1)).seconds > 60


async def test_limits__failures_in_a_row_bring_rest_and_one_call_ends_it(limits: Limits, clock: Clock) -> None:
    await fail(limits, 8)
    resting = await held_back(limits)
    clock.now += 5.01

    probe = await granted(limits)
    meanwhile = await held_back(limits)
    limits.give_back(probe, Report("answered"))

    assert resting == Wait(pytest.approx(5.0), "rest")
    assert probe.is_probe
    assert (meanwhile.why, meanwhile.seconds) == ("rest", 0.5)
    assert not (await granted(limits)).is_probe


async def test_limits__each_rest_is_twice_as_long_up_to_a_minute(limits: Limits, clock: Clock) -> None:
    await fail(limits, 8)
    rests = []
    for _ in range(6):
        rests.append((await held_back(limits)).seconds)
        clock.now += rests[-1] + 0.01
        await fail(limits, 1)

    assert rests == [pytest.approx(seconds) for seconds in (5, 10, 20, 40, 60, 60)]


async def test_limits__answer_between_failures_keeps_a_deployment_in_use(limits: Limits) -> None:
    for _ in range(5):
        await fail(limits, 7)
        limits.give_back(await granted(limits), Report("answered"))


async def test_limits__what_was_the_requests_own_fault_says_nothing(limits: Limits) -> None:
    for _ in range(50):
        limits.give_back(await granted(limits), Report("neither"))

    await granted(limits)


async def test_limits__broken_deployment_is_left_alone_and_the_other_has_the_calls(limits: Limits) -> None:
    broken, sound = a_deployment("broken"), a_deployment("sound")
    asked = []
    for _ in range(100):
        grant = await granted(limits, broken, sound)
        asked.append(grant.deployment.id)
        limits.give_back(grant, Report("failed" if grant.deployment is broken else "answered"))

    assert asked.count("broken") == 8


async def test_limits__provider_that_asks_for_a_day_is_asked_again_in_five_minutes(limits: Limits) -> None:
    limits.give_back(await granted(limits), Report("failed", pause_seconds=86_400.0))

    assert await held_back(limits) == Wait(pytest.approx(300.0), "rate")


async def test_limits__who_waits_for_room_is_woken_by_a_call_that_ends(limits: Limits) -> None:
    grant = await granted(limits)
    waiting = asyncio.create_task(limits.room(60.0))
    await asyncio.sleep(0)

    limits.give_back(grant, Report("answered"))

    async with asyncio.timeout(2):
        await waiting


@pytest.mark.parametrize("seed", range(6))
async def test_limits__both_accounts_decide_alike(request: pytest.FixtureRequest, clock: Clock, seed: int) -> None:
    draw = random.Random(seed)  # noqa: S311 - the same decisions each time
    deployments = [
        a_deployment("a", max_in_flight=5),
        a_deployment("b", rpm=120),
        a_deployment("c", tpm=30_000, max_in_flight=20),
    ]
    both: list[Limits] = [LocalLimits(clock=clock), a_shared(request, clock)]
    flying: list[list[Grant]] = []

    for _ in range(400):
        clock.now += draw.choice([0.0, 0.001, 0.05, 0.3, 4.0])
        if flying and draw.random() < 0.5:
            grants = flying.pop(draw.randrange(len(flying)))
            ending = draw.choice(["answered", "answered", "refused", "failed", "failed", "neither"])
            pause = draw.choice([0.2, 1.0, 12.0]) if ending == "refused" else 0.0
            report = Report(ending, pause, draw.choice([None, 10, 900]))
            for limits, grant in zip(both, grants, strict=True):
                limits.give_back(grant, report)
                # Ends are told with the next take: now, and not when the clock has moved.
                await take(limits, a_deployment("another"))
        else:
            asked = draw.sample(deployments, draw.randint(1, 3))
            # So long that no call counts as lost: only the shared account has a need for that.
            ask = Ask(deployments=tuple(asked), tokens=500, seconds=10_000.0)
            local, shared = [await limits.take(ask) for limits in both]
            assert type(local) is type(shared), (local, shared)
            if isinstance(local, Grant) and isinstance(shared, Grant):
                assert (local.deployment, local.is_probe) == (shared.deployment, shared.is_probe)
                flying.append([local, shared])
            elif isinstance(local, Wait) and isinstance(shared, Wait) and "room" not in (local.why, shared.why):
                assert shared == Wait(pytest.approx(local.seconds, abs=1e-4), local.why)

    for limits in both:
        await limits.aclose()
