"""Cases with `turns`: each answer feeds the next question, and each turn may have assertions of its own."""

from __future__ import annotations

import msgspec
import pytest

from evals.outcome import build_outcome
from evals.provenance import record_of
from evals.rescoring import rescore
from evals.runner import Plan
from evals.types import Assertion, Case, Message, Suite, Turn
from tests.standins.model_server import model_server
from tests.unit.test_runner import INSTRUCTIONS, RUBRIC, a_plan, echoing, served, trials_of

WORDS = ("case 0001", "case 0002", "case 0003")


def contains(value: str) -> Assertion:
    return Assertion(type="contains", value=value)


def a_conversation(*turns: Turn, assertions: tuple[Assertion, ...] = (), **changes: object) -> Case:
    said = turns or tuple(Turn(content=words) for words in WORDS)
    first = (Message("user", said[0].content),)
    return msgspec.structs.replace(Case(title="talk", messages=first, turns=said, assertions=assertions), **changes)


async def test_turns__each_answer_is_told_with_the_next_question() -> None:
    async with model_server() as server:
        (trial,) = await trials_of(a_plan(a_conversation(), models=("mock-a",)), served(server, "mock-a"))

    histories = [[(m["role"], m["content"][:9]) for m in body["messages"]] for body in server.mock.last_bodies]
    assert [len(history) for history in histories] == [2, 4, 6]
    assert histories[2] == [
        ("system", "Be kind."),
        ("user", "case 0001"),
        ("assistant", "ANSWER-00"),
        ("user", "case 0002"),
        ("assistant", "ANSWER-00"),
        ("user", "case 0003"),
    ]
    assert trial.completion is not None
    assert len(trial.earlier) == 2
    assert server.mock.last_bodies[2]["messages"][2]["content"] == trial.earlier[0].text
    assert server.mock.last_bodies[2]["messages"][4]["content"] == trial.earlier[1].text


async def test_turns__a_commands_template_is_filled_once() -> None:
    command = msgspec.structs.replace(INSTRUCTIONS, system="", template="Do $ARGUMENTS now.")
    plan = msgspec.structs.replace(a_plan(a_conversation(), models=("mock-a",)), instructions=command)
    async with model_server() as server:
        await trials_of(plan, served(server, "mock-a"))

    said = [m["content"] for m in server.mock.last_bodies[2]["messages"] if m["role"] == "user"]
    assert said == ["Do case 0001 now.", "case 0002", "case 0003"]


async def test_turns__assertions_of_a_turn_judge_its_answer_and_those_of_the_case_the_last_one() -> None:
    turns = (
        Turn(content="one", assertions=(contains("one"), Assertion(type="not-contains", value="two"))),
        Turn(content="two"),
        Turn(content="three", assertions=(contains("three"),)),
    )

    (trial,) = await trials_of(a_plan(a_conversation(*turns, assertions=(contains("three"),))), echoing())

    assert [(result.turn, result.type, result.passed) for result in trial.assertions] == [
        (1, "contains", True),
        (1, "not-contains", True),
        (3, "contains", True),
        (None, "contains", True),
    ]
    assert (trial.state, trial.score) == ("passed", 1.0)


async def test_turns__one_that_fails_early_fails_the_case() -> None:
    turns = (Turn(content="one", assertions=(contains("two"),)), Turn(content="two", assertions=(contains("two"),)))

    (trial,) = await trials_of(a_plan(a_conversation(*turns)), echoing())

    assert (trial.state, trial.score) == ("failed", 0.5)


async def test_turns__graded_assertion_of_a_turn_is_asked_about_its_answer() -> None:
    turns = (Turn(content="case 0001", assertions=(RUBRIC,)), Turn(content="case 0002"))
    async with model_server() as server:
        (trial,) = await trials_of(
            a_plan(a_conversation(*turns), models=("mock-a",)), served(server, "mock-a"), served(server, "judge-a")
        )

    (asked,) = [body for body in server.mock.last_bodies if body["model"] == "judge-a"]
    assert trial.earlier[0].text in asked["messages"][1]["content"]
    assert "case 0001" in asked["messages"][1]["content"]
    assert trial.completion is not None
    assert trial.completion.text not in asked["messages"][1]["content"]


async def test_turns__cost_and_tokens_are_summed_and_earlier_answers_are_shown() -> None:
    plan = a_plan(a_conversation(Turn(content="one"), Turn(content="two words")))
    trials = await trials_of(plan, echoing())

    outcome = build_outcome(plan.suite, plan.models, trials, total_duration_ms=1, engine_version="1")

    (row,) = outcome.test_cases
    # The package's two words, then "one", its echo, and "two words".
    assert (row.input_tokens, row.output_tokens) == ((2 + 1) + (2 + 1 + 1 + 2), 1 + 2)
    assert row.cost_usd == pytest.approx((9 * 1 + 3 * 2) / 1e6)
    assert outcome.summary.total_tokens == 12
    assert outcome.summary.total_cost_usd == row.cost_usd
    assert (row.earlier, row.response) == (("one",), "two words")


async def test_turns__trouble_on_the_way_is_an_error_that_keeps_what_was_paid() -> None:
    case = a_conversation(assertions=(contains("ANSWER"),))
    async with model_server() as server:
        server.mock.answers = ["first"]
        plan = a_plan(case, models=("slow-150-a",), trial_timeout_seconds=0.25)
        (trial,) = await trials_of(plan, served(server, "slow-150-a"))

    assert trial.state == "error"
    assert trial.error is not None
    assert trial.error.kind == "timeout"
    assert trial.completion is None
    assert [completion.text for completion in trial.earlier] == ["first"]
    outcome = build_outcome(plan.suite, plan.models, [trial], total_duration_ms=1, engine_version="1")
    assert outcome.summary.total_cost_usd > 0


async def test_turns__are_judged_again_offline_byte_by_byte() -> None:
    latency = Assertion(type="latency", threshold=10_000.0)
    turns = (
        Turn(content="case 0001", assertions=(contains("ANSWER-0001"), RUBRIC)),
        Turn(content="case 0002", assertions=(contains("ANSWER-0001"), latency)),
    )
    plan = Plan(
        instructions=INSTRUCTIONS,
        suite=Suite(cases=(a_conversation(*turns, assertions=(RUBRIC, latency), repeat=2),)),
        models=("mock-a",),
    )
    async with model_server() as server:
        trials = await trials_of(plan, served(server, "mock-a"), served(server, "judge-a"))
    outcome = build_outcome(plan.suite, plan.models, trials, total_duration_ms=1, engine_version="1")
    outcome = msgspec.structs.replace(outcome, record=record_of(plan.suite, plan.models, trials))

    again = await rescore(msgspec.json.decode(msgspec.json.encode(outcome), type=type(outcome)))

    assert msgspec.structs.replace(again, engine_version="1") == outcome
    assert outcome.summary.conclusion == "passed"
