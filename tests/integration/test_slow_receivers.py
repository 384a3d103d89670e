"""Receivers and forges that accept and never answer: what is told to others does not wait for them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from notifiers import CannotNotify, NoResponse
from server.domain.reporting import ReportSettings
from server.services.delivering import OutboxLoop, ToldChange
from server.services.forge_access import ForgeAccess
from server.services.forge_reports import ForgeReports
from tests.outbox import a_target, an_ended_job, outgoing
from tests.queue import an_account
from tests.reporting import a_github_account, access_to, the_change
from tests.standins.github_forge import GitHubForge
from tests.standins.web import Answer, Seen, StandIn


class Receiver(StandIn):
    """Takes everything."""

    def answer(self, seen: Seen) -> Answer:
        return Answer(status=200, body={})


@pytest.fixture
def quick() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


@pytest.fixture
def hanging() -> Iterator[Receiver]:
    released = threading.Event()
    with Receiver().running() as running:
        running.before_answer = lambda _: released.wait(60)
        yield running
        released.set()


async def run_until(loop: OutboxLoop, done: Callable[[], Awaitable[bool]]) -> None:
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(15):
            while not await done():
                await asyncio.sleep(0.02)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_outbox__receivers_that_hang_for_one_account_hold_up_nobody_elses(
    db: asyncpg.Pool, quick: Receiver, hanging: Receiver
):
    """A hundred messages of an account whose receivers never answer; another one's comes behind them."""
    slow, other = await an_account(db), await an_account(db)
    for number in range(20):
        await a_target(db, slow, f"{hanging.url}/{number}", mode="always")
    for _ in range(5):
        await an_ended_job(db, slow)
    await a_target(db, other, f"{quick.url}/hook", mode="always")
    loop = OutboxLoop(db, outgoing(quick.url, hanging.url))
    ended: list[float] = []
    told: list[float] = []

    async def is_told() -> bool:
        if len(hanging.log) + await in_flight(db) >= 8 and not ended:
            await an_ended_job(db, other)
            ended.append(time.monotonic())
            loop.nudge()
        if quick.log:
            told.append(time.monotonic())
        return bool(told)

    await run_until(loop, is_told)

    assert told[0] - ended[0] < 2
    assert await db.fetchval("SELECT COUNT(*) FROM outbox WHERE account_id = $1 AND attempts > 0", slow) <= 8


async def in_flight(db: asyncpg.Pool) -> int:
    return await db.fetchval("SELECT COUNT(*) FROM outbox WHERE lease_until > NOW()")


@pytest.fixture
def github() -> Iterator[GitHubForge]:
    with GitHubForge().running() as running:
        yield running


@pytest.fixture
async def access(db: asyncpg.Pool, github: GitHubForge) -> AsyncIterator[ForgeAccess]:
    made = access_to(db, github)
    yield made
    await made.aclose()


async def test_forge__that_is_silent_is_left_alone_and_asked_again_later(
    db: asyncpg.Pool, github: GitHubForge, access: ForgeAccess
):
    account = await a_github_account(db, github)
    clock = [100.0]
    access.silences = type(access.silences)(monotonic=lambda: clock[0])
    told = ToldChange(account_id=account, change=the_change(github), settings=ReportSettings())
    reports = ForgeReports(db, access)
    address = await reports.address(told, marker="m")

    for _ in range(2):
        reports.understand(address, NoResponse("GitHub did not answer."))

    with pytest.raises(CannotNotify, match="left alone for a while") as silent:
        await reports.address(told, marker="m")
    assert (silent.value.retryable, silent.value.retry_after_seconds) == (True, 15.0)
    clock[0] += 15
    await reports.address(told, marker="m")
    reports.understand(address, CannotNotify("It refused.", status=422))
    reports.understand(address, NoResponse("GitHub did not answer."))
    assert (await reports.address(told, marker="m")).target == address.target
