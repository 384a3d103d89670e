"""Kept answers: what is used again, and what it costs."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from evals.models import CompletionRequest
from server.domain.accounts import Caller
from server.services.publishing import keep_snapshot
from tests.caching import House, a_case, a_suite, said, states
from tests.packages import an_archive


async def test_cache__a_changed_suite_only_pays_for_what_changed(house: House, alice: Caller, snapshot: str):
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2, 3))
    assert said(first) == [("miss", "not asked before")] * 3
    assert house.calls == 3

    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(9, 1, 3))

    assert house.calls == 1
    assert states(second) == ["miss", "hit", "hit"]
    assert said(second)[1][1].startswith("answered on 20")
    assert second.summary.conclusion == "passed"
    assert second.summary.trials_cached == 2


async def test_cache__a_hit_keeps_its_tokens_and_costs_nothing(house: House, alice: Caller, snapshot: str):
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, description="another suite"))

    [paid], [free] = first.test_cases, second.test_cases
    assert (free.response, free.input_tokens, free.output_tokens) == (
        paid.response,
        paid.input_tokens,
        paid.output_tokens,
    )
    assert second.summary.total_tokens == first.summary.total_tokens > 0
    assert first.summary.total_cost_usd > 0
    assert (free.cost_usd, second.summary.total_cost_usd) == (0.0, 0.0)
    assert free.cache.saved_usd == paid.cost_usd
    month = await house.db.fetchrow("SELECT cost_usd, test_runs_count FROM user_test_usage")
    assert float(month["cost_usd"]) == pytest.approx(first.summary.total_cost_usd)
    assert month["test_runs_count"] == 2  # the second was run, if on kept answers


async def test_cache__each_repeat_has_an_answer_of_its_own(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, repeat=3)]})
    assert house.calls == 3

    more = await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, repeat=5)]})

    assert house.calls == 2
    [row] = more.test_cases
    assert sorted(trial.cache.state for trial in row.trials) == ["hit"] * 3 + ["miss"] * 2


async def test_cache__two_cases_that_ask_the_same_never_share_an_answer(house: House, alice: Caller, snapshot: str):
    twice = {"tests": [a_case(1), {**a_case(1), "description": "again"}]}

    house.server.mock.answers = ["ANSWER-1, one", "ANSWER-1, another"]
    first = await house.run(alice, snapshot_id=snapshot, suite=twice)

    assert (house.calls, states(first)) == (2, ["miss", "miss"])
    again = await house.run(alice, snapshot_id=snapshot, suite={**twice, "description": "another"})
    assert (house.calls, states(again)) == (0, ["hit", "hit"])
    assert [row.response for row in again.test_cases] == [row.response for row in first.test_cases]
    assert len({row.response for row in again.test_cases}) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens": 77},
        {"temperature": 0},
        {
            "tests": [
                {**a_case(1), "messages": [{"role": "system", "content": "."}, {"role": "user", "content": "case 1"}]}
            ]
        },
    ],
)
async def test_cache__whatever_decides_the_answer_is_part_of_the_key(
    house: House, alice: Caller, snapshot: str, change: dict[str, Any]
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    changed = {**a_suite(1), **change}
    for case in changed["tests"]:
        if "messages" in case:
            case.pop("input", None)

    assert states(await house.run(alice, snapshot_id=snapshot, suite=changed)) == ["miss"]


async def test_cache__another_model_and_another_package_are_asked(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    other = (await keep_snapshot(house.db, alice, archive=an_archive(text="You answer at length."))).snapshot_id

    assert states(await house.run(alice, snapshot_id=snapshot, suite=a_suite(1), models=["other"])) == ["miss"]
    assert states(await house.run(alice, snapshot_id=other, suite=a_suite(1))) == ["miss"]


async def test_cache__a_model_that_became_another_is_asked_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE model_versions SET version = 'mock-a-2' WHERE version = 'mock-a'")

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert said(again)[0] == ("miss", "asked before of mock-a, now it is mock-a-2")


async def test_cache__an_answer_of_a_fallback_is_not_kept(house: House, alice: Caller, snapshot: str):
    house.server.mock.fail_next = 1
    house.server.mock.fail_status = 401
    first = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    assert first.test_cases[0].answered_by == "mock-spare"

    second = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))

    assert second.test_cases[0].answered_by == "mock-a"
    assert states(second) == ["miss"]


async def test_cache__judges_are_not_paid_twice_though_their_fence_is_new_each_time(
    house: House, alice: Caller, snapshot: str
):
    rubric = {"type": "llm-rubric", "value": "names the answer", "model": "judge"}
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, rubric, repeat=2)]})
    assert house.calls == 5  # two answers, two opinions, and one opinion asked for again

    again = await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, rubric, repeat=2), a_case(2)]})

    assert house.calls == 1
    assert again.summary.conclusion == "passed"
    stricter = {**rubric, "value": "names the answer, and nothing else"}
    await house.run(alice, snapshot_id=snapshot, suite={"tests": [a_case(1, stricter, repeat=2)]})
    assert house.calls == 3


# --- what asks anew


async def test_cache__false_in_the_request_asks_anew_and_keeps_the_new_answer(
    house: House, alice: Caller, snapshot: str
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    house.server.mock.answers = ["ANSWER-1, told anew"]

    fresh = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1), cache=False)

    assert said(fresh) == [("bypass", "the run asks every model anew")]
    assert fresh.test_cases[0].response == "ANSWER-1, told anew"
    later = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))
    assert (states(later)[0], later.test_cases[0].response) == ("hit", "ANSWER-1, told anew")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"cache": False}, ("bypass", "the suite says `cache: false`")),
        ({"temperature": 0.7}, ("bypass", "temperature 0.7 asks for a new answer each time")),
        ({"temperature": 0.7, "cache": True}, ("hit", "")),
        ({"temperature": 0}, ("hit", "")),
    ],
)
async def test_cache__the_suite_says_whether_answers_are_kept(
    house: House, alice: Caller, snapshot: str, fields: dict[str, Any], expected: tuple[str, str]
):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, **fields))

    state, reason = said(again)[0]
    assert state == expected[0]
    assert reason.startswith(expected[1])


async def test_cache__latency_is_measured_anew_and_the_other_cases_are_not(house: House, alice: Caller, snapshot: str):
    timed = {"tests": [a_case(1, {"type": "latency", "threshold": 60_000}), a_case(2)]}
    await house.run(alice, snapshot_id=snapshot, suite=timed)

    again = await house.run(alice, snapshot_id=snapshot, suite=timed)

    assert said(again)[0] == ("bypass", "latency needs an answer of its own")
    assert states(again)[1] == "hit"
    assert again.summary.conclusion == "passed"


async def test_cache__a_cost_limit_is_held_against_what_the_answer_once_cost(
    house: House, alice: Caller, snapshot: str
):
    limited = {"tests": [a_case(1, {"type": "cost", "threshold": 0.000001})]}
    assert (await house.run(alice, snapshot_id=snapshot, suite=limited)).summary.conclusion == "failed"

    again = await house.run(alice, snapshot_id=snapshot, suite={**limited, "description": "another"})

    assert states(again) == ["hit"]
    assert again.summary.conclusion == "failed"


async def test_cache__answers_that_are_too_old_are_asked_again(house: House, alice: Caller, snapshot: str):
    await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
    await house.db.execute("UPDATE completions SET created_at = created_at - INTERVAL '15 days'")

    again = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert said(again)[0] == ("miss", "asked more than 14 days ago")


async def test_cache__0_days_switch_it_off(house: House, alice: Caller, snapshot: str):
    house.days = 0

    for _ in range(2):
        outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1))
        assert said(outcome) == [("", "")]
        assert house.calls == 1
    assert await house.db.fetchval("SELECT COUNT(*) FROM completions") == 0
    assert await house.db.fetchval("SELECT COUNT(*) FROM cached_outcomes") == 0


async def test_cache__one_that_cannot_be_reached_ends_no_job(house: House, alice: Caller, snapshot: str):
    await house.db.execute("ALTER TABLE completions RENAME TO away")

    outcome = await house.run(alice, snapshot_id=snapshot, suite=a_suite(1, 2))

    assert outcome.summary.conclusion == "passed"
    assert said(outcome) == [("miss", "the cache could not be read")] * 2
    await house.db.execute("ALTER TABLE away RENAME TO completions")


# --- the caches' own manners


async def test_cache__a_gathered_statement_that_fails_fails_those_in_it_alone():
    from server.services.caching import Gathered

    async def act(asked: list[int]) -> list[int]:
        if 1 in asked:
            raise OSError("away")
        return [number * 10 for number in asked]

    gathered: Gathered[int, int] = Gathered(act)

    with pytest.raises(OSError, match="away"):
        await asyncio.gather(gathered.ask(1), gathered.ask(2))
    assert await asyncio.gather(gathered.ask(3), gathered.ask(4)) == [30, 40]


async def test_cache__an_answer_that_says_the_fence_changes_no_key():
    from evals.models import Deployment
    from evals.types import Message
    from server.services.caching import completion_key

    def key(text: str, nonce: str) -> bytes:
        return completion_key(
            Deployment(id="d", backend="echo", model="m", price=None),
            CompletionRequest(messages=(Message("user", text),), nonce=nonce),
        )

    assert key("DATA-1 a DATA-1", "DATA-1") == key("DATA-2 a DATA-2", "DATA-2")
    assert key("DATA-1 a DATA-1", "DATA-1") != key("DATA-2 a b DATA-2", "DATA-2")
    assert key("DATA-1 a DATA-1", "DATA-1") != key(" a ", "")
