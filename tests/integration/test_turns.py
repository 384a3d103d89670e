"""Turns on a line of heads: one handler at a time, whatever becomes of the one before."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from server.domain.change_heads import pull_line
from server.services import turns
from server.services.turns import turn_on
from server.store import change_heads

LINE = pull_line("github", 7, 12)


async def test_turn__is_one_handlers_at_a_time(db: asyncpg.Pool):
    inside: list[str] = []
    seen: list[int] = []

    async def work(name: str) -> None:
        async with turn_on(db, LINE):
            inside.append(name)
            seen.append(len(inside))
            await asyncio.sleep(0.02)
            inside.remove(name)

    await asyncio.gather(*(work(str(number)) for number in range(6)))

    assert seen == [1] * 6


async def test_turn__of_another_line_is_not_waited_for(db: asyncpg.Pool):
    async with turn_on(db, LINE), asyncio.timeout(5), turn_on(db, pull_line("github", 7, 13)):
        pass


async def test_turn__ends_with_what_went_wrong_in_it(db: asyncpg.Pool):
    with pytest.raises(ValueError, match="broke"):
        async with turn_on(db, LINE):
            raise ValueError("broke")

    async with asyncio.timeout(5), turn_on(db, LINE):
        pass


async def test_turn__of_a_holder_that_died_runs_out(db: asyncpg.Pool):
    async with turn_on(db, LINE):
        await db.execute("UPDATE change_turns SET until = NOW() - INTERVAL '1 second'")

        async with asyncio.timeout(5), turn_on(db, LINE):
            held = await db.fetchval("SELECT COUNT(*) FROM change_turns")

        assert held == 1
    assert await db.fetchval("SELECT COUNT(*) FROM change_turns") == 0


def test_turn__is_left_well_before_another_may_begin():
    assert turns.HOLD_SECONDS + 10 < turns.TURN_SECONDS


async def test_heads__an_approval_is_for_one_head_and_the_next_one_clears_it(db: asyncpg.Pool):
    now = await db.fetchval("SELECT NOW()")
    later = await db.fetchval("SELECT NOW() + INTERVAL '2 seconds'")
    await change_heads.record_head(db, LINE, "a" * 40, made_at=now)

    assert await approve(db, "a" * 40, at=now) is None  # of the same second: not surely after it
    assert await approve(db, "a" * 40, at=later) == "comment:1"
    assert await change_heads.read_approval(db, LINE, "b" * 40) is None

    await change_heads.record_head(db, LINE, "b" * 40, made_at=later)
    assert await change_heads.read_approval(db, LINE, "a" * 40) is None


async def approve(db: asyncpg.Pool, head: str, *, at) -> str | None:
    return await change_heads.approve_head(db, LINE, head, approval="comment:1", approved_by="ann", said_at=at)
