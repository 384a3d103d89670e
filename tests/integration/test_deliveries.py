"""Kept deliveries and their handlers: what fails for a while is tried again, and one handler has each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from server.domain.deliveries import ClaimedDelivery, Ended, Room
from server.domain.events import Meaning
from server.services.handling import AT_ONCE, PAUSES_SECONDS, InboxLoop, TryLater, room_of
from server.services.retention import Keep, clean_up
from server.store import deliveries
from tests.links import a_delivery
from tests.webhooks import a_payload, encoded

BODY = encoded(a_payload("github/pull_request.opened"))
GITLAB_BODY = encoded(a_payload("gitlab/merge_request"))
NO_ROOM_TAKEN = (["github"], [10], ["github installation 1"], [1], ["github installation 2"], ["gitlab"])


async def keep(db: asyncpg.Pool, name: str, *, body: bytes = BODY, source: str = "github", holder: str = "") -> bool:
    return await deliveries.keep_delivery(
        db, source=source, hook_id=None, delivery_id=name, event="pull_request", body=body, holder=holder
    )


async def the(db: asyncpg.Pool, name: str) -> asyncpg.Record:
    return await db.fetchrow(
        "SELECT *, EXTRACT(EPOCH FROM next_at - NOW())::FLOAT8 AS due_in FROM deliveries WHERE delivery_id = $1", name
    )


def acting(*answers: Ended | Exception):
    """Acts as told, one answer after the other; the events are in `.seen`."""
    left = list(answers)
    seen: list[Meaning] = []

    async def act(meaning: Meaning, _: ClaimedDelivery) -> Ended:
        seen.append(meaning)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    act.seen = seen  # type: ignore[attr-defined]
    return act


async def test_delivery__is_handled_once_and_says_what_came_of_it(db: asyncpg.Pool):
    assert await keep(db, "one")
    assert not await keep(db, "one")
    act = acting(Ended("handled", "A job was submitted."))

    loop = InboxLoop(db, act)
    assert await loop.handle_due() == 1
    assert await loop.handle_due() == 0

    row = await the(db, "one")
    assert (row["state"], row["reason"], row["attempts"]) == ("handled", "A job was submitted.", 1)
    assert len(act.seen) == 1


async def test_delivery__what_is_away_is_asked_later_and_later_and_then_given_up(db: asyncpg.Pool):
    await keep(db, "one")
    loop = InboxLoop(db, acting(*[TryLater("GitHub does not answer.")] * 10))

    pauses = []
    while (await the(db, "one"))["state"] == "received":
        await loop.handle_due()
        pauses.append((await the(db, "one"))["due_in"])
        await db.execute("UPDATE deliveries SET next_at = NOW()")

    row = await the(db, "one")
    assert (row["state"], row["reason"]) == ("failed", "GitHub does not answer.")
    assert len(pauses) == len(PAUSES_SECONDS) + 1
    for pause, expected in zip(pauses, PAUSES_SECONDS, strict=False):
        assert 0.75 * expected < pause < 1.25 * expected
    assert sum(PAUSES_SECONDS) >= 34 * 3600
    assert await keep(db, "one")  # GitHub was asked to deliver it again


async def test_delivery__later_is_never_sooner_than_was_asked_for(db: asyncpg.Pool):
    await keep(db, "one")

    await InboxLoop(db, acting(TryLater("Slow down.", seconds=900))).handle_due()

    assert 890 < (await the(db, "one"))["due_in"] < 910


async def test_delivery__a_defect_is_visible_and_others_go_on(db: asyncpg.Pool):
    for name in ("broken", "whole"):
        await keep(db, name)
    act = acting(ValueError("canary"), Ended("handled", "Done."))

    await InboxLoop(db, act).handle_due()

    states = {name: await the(db, name) for name in ("broken", "whole")}
    assert sorted(row["state"] for row in states.values()) == ["handled", "received"]
    assert [row["reason"] for row in states.values() if row["state"] == "received"] == [
        "Handling it broke; the log says how."
    ]


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (ConnectionResetError("canary"), "Something outside did not answer."),
        (TimeoutError(), "It took too long."),
        (asyncpg.DataError("canary"), "Handling it broke; the log says how."),
    ],
)
async def test_delivery__trouble_outside_is_counted_and_never_taken_for_the_inboxs_own(
    db: asyncpg.Pool, trouble: Exception, reason: str
):
    await keep(db, "one")

    await InboxLoop(db, acting(trouble)).handle_due()

    row = await the(db, "one")
    assert (row["reason"], row["lease_until"], row["attempts"]) == (reason, None, 1)
    assert row["due_in"] > 3


async def test_delivery__that_never_ends_is_put_off(db: asyncpg.Pool):
    await keep(db, "one")

    async def act(meaning: Meaning, _: ClaimedDelivery) -> Ended:
        await asyncio.sleep(30)
        raise AssertionError

    await InboxLoop(db, act, attempt_seconds=0.05).handle_due()

    assert (await the(db, "one"))["reason"] == "It took too long."


async def test_delivery__two_handlers_never_have_the_same_one(db: asyncpg.Pool):
    for number in range(40):
        await keep(db, str(number))

    async def claim() -> list[int]:
        return [one.id for one in await deliveries.claim_deliveries(db, most=10, lease_seconds=60)]

    claimed = [number for found in await asyncio.gather(*(claim() for _ in range(6))) for number in found]

    assert sorted(claimed) == sorted(set(claimed))
    assert len(claimed) == 40


async def test_delivery__of_a_handler_that_died_goes_to_another_and_the_first_may_not_write(db: asyncpg.Pool):
    await keep(db, "one")
    (first,) = await deliveries.claim_deliveries(db, most=1, lease_seconds=60)
    assert await deliveries.claim_deliveries(db, most=1, lease_seconds=60) == []
    await db.execute("UPDATE deliveries SET lease_until = NOW() - INTERVAL '1 second'")

    (second,) = await deliveries.claim_deliveries(db, most=1, lease_seconds=60)

    assert not await deliveries.end_deliveries(db, [(first, Ended("handled", "late"))])
    assert not await deliveries.extend_leases(db, [first], lease_seconds=60)
    assert not await deliveries.put_off(db, first, seconds=1, reason="late")
    assert await deliveries.end_deliveries(db, [(second, Ended("handled", "in time"))]) == {second.id}
    assert (await the(db, "one"))["reason"] == "in time"


async def test_delivery__that_was_just_put_off_is_held_by_nobody_again(db: asyncpg.Pool):
    """Its handler may be about to say that it still holds it, or that it stops."""
    await keep(db, "d-1")
    (held,) = await deliveries.claim_deliveries(db, most=1, lease_seconds=60)
    assert await deliveries.put_off(db, held, seconds=0, reason="A forge is away.")

    assert not await deliveries.extend_leases(db, [held], lease_seconds=60)
    await deliveries.release(db, [held])

    (again,) = await deliveries.claim_deliveries(db, most=1, lease_seconds=60)
    assert again.attempts == 2


async def test_delivery__of_a_source_that_is_no_more_is_invalid(db: asyncpg.Pool):
    await keep(db, "one", source="bitbucket")

    await InboxLoop(db, acting()).handle_due()

    assert (await the(db, "one"))["state"] == "invalid"


@pytest.mark.parametrize(("state", "left"), [("handled", 0), ("failed", 0), ("received", 1)])
async def test_retention__D8_old_deliveries_go_unless_they_wait(db: asyncpg.Pool, state: str, left: int):
    await keep(db, "one")
    await db.execute("UPDATE deliveries SET state = $1, received_at = NOW() - INTERVAL '31 days'", state)

    await clean_up(db, Keep())

    assert await db.fetchval("SELECT COUNT(*) FROM deliveries") == left


async def test_deliveries__due_ones_are_found_by_an_index(db: asyncpg.Pool):
    await db.execute(
        "INSERT INTO deliveries (source, delivery_id, event, body, state)"
        " SELECT 'github', n::TEXT, 'push', '', 'handled' FROM generate_series(1, 20000) n"
    )
    await keep(db, "due")
    await db.execute("ANALYZE deliveries")

    plan = "\n".join(
        row[0] for row in await db.fetch("EXPLAIN " + deliveries.SQL["claim_deliveries"], 10, 60.0, *NO_ROOM_TAKEN)
    )

    assert "deliveries_due" in plan
    assert "Seq Scan" not in plan


async def run_until(loop: InboxLoop, done: Callable[[], Awaitable[bool]]) -> None:
    """The loop runs until something is so."""
    running = asyncio.create_task(loop.run())
    try:
        async with asyncio.timeout(10):
            while not await done():
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_inbox__one_whose_forge_is_slow_holds_up_no_other(db: asyncpg.Pool):
    await keep(db, "slow")
    first = asyncio.Event()

    async def act(meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
        if not first.is_set():
            first.set()
            await asyncio.sleep(60)
        return Ended("handled", "Done.")

    async def others_are_handled() -> bool:
        if first.is_set() and await db.fetchval("SELECT COUNT(*) FROM deliveries") == 1:
            for number in range(100):
                await keep(db, str(number))
        return await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE state = 'handled'") == 100

    await run_until(InboxLoop(db, act, look_seconds=0.05), others_are_handled)

    assert (await the(db, "slow"))["state"] == "received"


def hanging_for(*holders: str):
    """Handles at once, but for these, whose forge never answers."""

    async def act(meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
        if delivery.holder in holders:
            await asyncio.sleep(600)
        return Ended("handled", "Done.")

    return act


@pytest.mark.parametrize(
    ("source", "body"), [("github", BODY), ("gitlab", GITLAB_BODY)], ids=["the same forge", "another forge"]
)
async def test_inbox__a_forge_that_hangs_for_one_holds_up_nobody_else(db: asyncpg.Pool, source: str, body: bytes):
    """A hundred deliveries of one whose forge accepts and never answers; another one's comes a moment later."""
    for number in range(100):
        await keep(db, str(number), holder="github installation 1")

    async def all_slots_it_gets_are_taken() -> bool:
        return await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE lease_until IS NOT NULL") >= AT_ONCE // 2

    async def other_is_handled() -> bool:
        if await all_slots_it_gets_are_taken() and not asked:
            await keep(db, "other", body=body, source=source, holder=f"{source} installation 2")
            asked.append(time.monotonic())
            loop.nudge()
        return await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE state = 'handled'") == 1

    asked: list[float] = []
    loop = InboxLoop(db, hanging_for("github installation 1"))
    await run_until(loop, other_is_handled)

    assert time.monotonic() - asked[0] < 2
    assert (await the(db, "other"))["state"] == "handled"
    # What was not begun has lost nothing.
    tried = await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE attempts > 0 AND state = 'received'")
    assert tried <= AT_ONCE // 2


async def test_inbox__several_that_hang_leave_a_slot_for_the_next(db: asyncpg.Pool):
    hanging = [f"github installation {number}" for number in range(4)]
    for holder in hanging:
        for number in range(30):
            await keep(db, f"{holder} {number}", holder=holder)
    await keep(db, "other", holder="github installation 9")

    async def other_is_handled() -> bool:
        return (await the(db, "other"))["state"] == "handled"

    await run_until(InboxLoop(db, hanging_for(*hanging)), other_is_handled)


async def test_inbox__a_forge_that_hangs_for_all_takes_no_slot_of_another_forge(db: asyncpg.Pool):
    hanging = [f"gitlab project {number}" for number in range(100)]
    for holder in hanging:
        await keep(db, holder, body=GITLAB_BODY, source="gitlab", holder=holder)
    for number in range(30):
        await keep(db, str(number), holder="github installation 1")

    async def others_are_handled() -> bool:
        return await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE state = 'handled'") == 30

    await run_until(InboxLoop(db, hanging_for(*hanging)), others_are_handled)

    assert await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE lease_until IS NOT NULL") <= AT_ONCE


def test_room__who_is_alone_has_half_and_the_next_half_of_the_rest():
    held = [a_delivery(holder="github a")] * 10
    assert room_of(held, slots=20) == Room(
        free={"github": 10}, has={"github a": 10}, full_holders=("github a",), full_sources=()
    )

    held += [a_delivery(holder="github b")] * 5
    assert room_of(held, slots=20).full_holders == ("github a", "github b")

    held += [a_delivery(holder="")] * 5
    assert room_of(held, slots=20).full_sources == ("github",)
    assert room_of([], slots=20) == Room()


async def test_inbox__what_is_held_when_it_stops_is_another_ones_at_once(db: asyncpg.Pool):
    await keep(db, "one")
    begun = asyncio.Event()

    async def act(meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
        begun.set()
        await asyncio.sleep(60)
        raise AssertionError

    async def has_begun() -> bool:
        return begun.is_set()

    await run_until(InboxLoop(db, act), has_begun)

    row = await the(db, "one")
    assert (row["state"], row["lease_until"], row["attempts"]) == ("received", None, 0)


async def test_inbox__a_lease_is_renewed_as_long_as_its_delivery_is_handled(db: asyncpg.Pool):
    await keep(db, "one")
    calls = 0

    async def act(meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1.0)
        return Ended("handled", "Done.")

    async def is_handled() -> bool:
        return (await the(db, "one"))["state"] == "handled"

    await run_until(InboxLoop(db, act, look_seconds=0.05, lease_seconds=0.4), is_handled)

    assert calls == 1


async def test_inbox__what_another_has_by_now_is_let_go(db: asyncpg.Pool):
    await keep(db, "one")
    let_go = asyncio.Event()

    async def act(meaning: Meaning, delivery: ClaimedDelivery) -> Ended:
        await db.execute("UPDATE deliveries SET fence = fence + 1, lease_until = NOW() + INTERVAL '1 minute'")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            let_go.set()
            raise
        raise AssertionError

    async def is_let_go() -> bool:
        return let_go.is_set()

    await run_until(InboxLoop(db, act, lease_seconds=0.3), is_let_go)

    row = await the(db, "one")
    assert row["state"] == "received"
    assert row["lease_until"] is not None


async def test_inbox__ends_that_come_together_are_few_statements(db: asyncpg.Pool):
    for number in range(200):
        await keep(db, str(number), body=b"{}", source="github")

    async def all_ended() -> bool:
        return await db.fetchval("SELECT COUNT(*) FROM deliveries WHERE state = 'received'") == 0

    before = await db.fetchval("SELECT MAX(fence) FROM deliveries")
    await run_until(InboxLoop(db, acting(), look_seconds=0.05), all_ended)

    assert before is None
    writers = await db.fetchval("SELECT COUNT(DISTINCT xmin::TEXT) FROM deliveries")
    assert writers <= 40
