"""The package as it was, made ready to be run as it is run now: by models alone, or as the agent that it was."""

from __future__ import annotations

import uuid

import asyncpg
import pytest

from evals.archives import pack
from evals.catalogue import FREE, Catalogue, Model
from evals.comparing import Before
from evals.models import Deployment
from evals.runner import Plan
from evals.types import Case, Instructions, Message, Suite
from server.domain.baselines import FixedBaseline, KnownPast
from server.domain.jobs import ClaimedJob
from server.services.accounts import create_account
from server.services.baselines import NotAtHand, read_base
from server.services.publishing import keep_snapshot
from server.store.accounts import read_caller_by_id
from tests.agents import a_claude_agent, a_task

ALONE_TOO = Deployment(id="e", backend="echo", model="e", price=FREE)
RUNS = Model(
    name="able",
    deployments=(ALONE_TOO,),
    agents=(Deployment(id="a", backend="claude_agent", model="m", price=FREE),),
)
CATALOGUE = Catalogue(default="able", models=[RUNS])
SUITE = Suite(cases=(Case(title="t", messages=(Message("user", "q"),)),))
NOW = Instructions(name="helper", version="1.0.0", format="claude", subtype="agent", system="Now.")
AGENT = Plan(instructions=NOW, suite=SUITE, models=("able",), agent=a_task(a_claude_agent("Now.")))
ALONE = Plan(instructions=NOW, suite=SUITE, models=("able",))
RULE = {"AGENTS.md": b"Be short."}


def a_job(subtype: str = "agent") -> ClaimedJob:
    return ClaimedJob(
        id=uuid.uuid4(), fence=1, attempt=1, package_name="helper", package_version="1.0.0", format="claude",
        subtype=subtype, snapshot_id="0" * 64, suite_body="", models=("able",), plugins=(), framework="auto", trials=1,
        seconds_left=60, seconds_run=0, money_cap=1, spent=0, answer_tokens=100, asked_at=0, account_id=uuid.uuid4(),
        use_cache=True, is_public=False,
    )  # fmt: skip


async def read(db: asyncpg.Pool, snapshot: str | None, plan: Plan) -> Before | NotAtHand:
    fixed = FixedBaseline(kind="branch", name="main", past=KnownPast(rows=(), jobs=0), base_snapshot_id=snapshot)
    return await read_base(db, a_job(), fixed, plan, CATALOGUE)


async def keep(db: asyncpg.Pool, files: dict[str, bytes]) -> str:
    account = await create_account(db, "someone", tier="plus")
    caller = await read_caller_by_id(db, account.id)
    assert caller is not None
    return (await keep_snapshot(db, caller, archive=pack(files))).snapshot_id


async def test_base__of_an_agent_is_the_agent_that_it_was(db: asyncpg.Pool) -> None:
    snapshot = await keep(db, a_claude_agent("Before.", tools="Read"))

    before = await read(db, snapshot, AGENT)

    assert isinstance(before, Before)
    assert before.agent is not None
    assert before.agent.system.strip() == before.instructions.system.strip() == "Before."
    assert b"Before." in b"".join(before.agent.files.values())
    assert before.agent.rules == ("Read",)


async def test_base__of_models_alone_is_what_they_were_told(db: asyncpg.Pool) -> None:
    before = await read(db, await keep(db, a_claude_agent("Before.")), ALONE)

    assert isinstance(before, Before)
    assert (before.instructions.system.strip(), before.agent) == ("Before.", None)


@pytest.mark.parametrize(
    ("files", "why"),
    [(None, "no other files of it are stored"), ({"x": b""}, "its files are not kept any more")],
)
async def test_base__that_is_not_at_hand_says_why(db: asyncpg.Pool, files: object, why: str) -> None:
    assert await read(db, None if files is None else "f" * 64, AGENT) == NotAtHand(why)


async def test_base__that_was_no_agent_is_not_compared_with_one(db: asyncpg.Pool) -> None:
    fixed = FixedBaseline(
        kind="branch", name="main", past=KnownPast(rows=(), jobs=0), base_snapshot_id=await keep(db, RULE)
    )

    said = await read_base(db, a_job(subtype="rule"), fixed, AGENT, CATALOGUE)

    assert said == NotAtHand("it was no agent then")
