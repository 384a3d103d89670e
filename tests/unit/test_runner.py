"""The runner: every trial once, in order, bounded, and whole whatever happens to one of them."""

from __future__ import annotations

import asyncio
import logging
import tracemalloc
from collections.abc import AsyncGenerator, Collection
from contextlib import aclosing
from typing import Any, cast

import pytest

from evals.catalogue import Catalogue, Model
from evals.models import Deployment
from evals.pool import ModelPool
from evals.runner import BROKEN, Plan, run, trial_count
from evals.types import Assertion, Case, Instructions, Message, Price, Suite, Trial, TrialKey
from tests.standins.model_server import ModelServer, model_server

INSTRUCTIONS = Instructions(name="@demo/hello", version="1.0.0", format="claude", subtype="rule", system="Be kind.")
PRICE = Price(input=1.0, output=2.0)
RUBRIC = Assertion(type="llm-rubric", value="greets", model="judge-a")


async def no_sleep(_: float) -> None:
    return None


def a_case(text: str = "case 0001", *assertions: Assertion, **changes: Any) -> Case:
    checks = assertions or (Assertion(type="contains", value=text[-4:]),)
    return Case(title=text, messages=(Message("user", text),), assertions=checks, **changes)


def a_plan(*cases: Case, models: tuple[str, ...] = ("echo",), **changes: Any) -> Plan:
    return Plan(instructions=INSTRUCTIONS, suite=Suite(cases=cases or (a_case(),)), models=models, **changes)


def echoing(name: str = "echo", **options: Any) -> Model:
    deployment = Deployment(id=f"echo/{name}", backend="echo", model=name, price=PRICE, options=options)
    return Model(name=name, deployments=(deployment,))


def served(server: ModelServer, name: str) -> Model:
    deployment = Deployment(
        id=f"server/{name}", backend="openai_compatible", model=name, price=PRICE, base_url=server.base_url
    )
    return Model(name=name, deployments=(deployment,))


def a_pool(*models: Model) -> ModelPool:
    return ModelPool(Catalogue(default=models[0].name, models=models), sleep=no_sleep)


def stream(plan: Plan, pool: ModelPool, *, done: Collection[TrialKey] = ()) -> AsyncGenerator[Trial, None]:
    return cast(AsyncGenerator[Trial, None], run(plan, pool=pool, done=done))


async def trials_of(plan: Plan, *models: Model, done: Collection[TrialKey] = ()) -> list[Trial]:
    async with a_pool(*models) as pool:
        return [trial async for trial in run(plan, pool=pool, done=done)]


async def test_runner__trial_has_verdict_answer_cost_and_assertions() -> None:
    (trial,) = await trials_of(a_plan(), echoing())

    assert (trial.case_index, trial.model, trial.repeat_index) == (0, "echo", 0)
    assert (trial.state, trial.score) == ("passed", 1.0)
    assert trial.completion is not None
    assert trial.completion.text == "case 0001"
    assert trial.completion.input_tokens == 4, "the package's words count too"
    assert trial.completion.cost_usd == pytest.approx((4 * 1 + 2 * 2) / 1e6)
    assert [result.type for result in trial.assertions] == ["contains"]
    assert trial.error is None


async def test_runner__model_is_told_what_package_case_and_suite_say() -> None:
    suite = Suite(cases=(a_case(),), temperature=0.3, max_tokens=17)
    plan = Plan(instructions=INSTRUCTIONS, suite=suite, models=("mock-a",))
    async with model_server() as server:
        await trials_of(plan, served(server, "mock-a"))

    (body,) = server.mock.last_bodies
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "Be kind." in body["messages"][0]["content"]
    assert (body["temperature"], body["max_tokens"]) == (0.3, 17)


async def test_runner__runs_every_case_on_every_model_as_often_as_it_repeats() -> None:
    plan = a_plan(a_case("case 0001"), a_case("case 0002", repeat=3), models=("a", "b"))

    trials = await trials_of(plan, echoing("a"), echoing("b"))

    assert trial_count(plan) == len(trials) == 8
    assert {trial.key for trial in trials} == {
        TrialKey(case, model, repeat)
        for case, repeats in ((0, 1), (1, 3))
        for model in ("a", "b")
        for repeat in range(repeats)
    }


async def test_runner__goes_through_the_file_in_order_with_the_models_side_by_side() -> None:
    plan = a_plan(a_case("case 0001"), a_case("case 0002", repeat=2), models=("a", "b"), concurrency=1)

    trials = await trials_of(plan, echoing("a"), echoing("b"))

    assert [(t.case_index, t.repeat_index, t.model) for t in trials] == [
        (0, 0, "a"),
        (0, 0, "b"),
        (1, 0, "a"),
        (1, 0, "b"),
        (1, 1, "a"),
        (1, 1, "b"),
    ]


async def test_runner__finished_trials_are_not_run_again() -> None:
    plan = a_plan(a_case("case 0001", repeat=3))

    trials = await trials_of(plan, echoing(), done=[TrialKey(0, "echo", 0), TrialKey(0, "echo", 2)])

    assert [trial.key for trial in trials] == [TrialKey(0, "echo", 1)]


async def test_runner__nothing_to_do_ends_at_once() -> None:
    assert await trials_of(a_plan(), echoing(), done=[TrialKey(0, "echo", 0)]) == []
    assert await trials_of(Plan(instructions=INSTRUCTIONS, suite=Suite(cases=()), models=("echo",)), echoing()) == []


async def test_runner__yields_each_trial_as_it_finishes() -> None:
    plan = a_plan(models=("slow", "fast"))
    async with (
        a_pool(echoing("slow", latency_ms=200), echoing("fast")) as pool,
        aclosing(stream(plan, pool)) as trials,
    ):
        first = await anext(trials)

    assert first.model == "fast"


async def test_runner__concurrency_is_a_limit_and_is_used() -> None:
    plan = a_plan(*(a_case(f"case {n:04}") for n in range(24)), models=("mock-a",), concurrency=6)
    async with model_server(latency_ms=20) as server:
        trials = await trials_of(plan, served(server, "mock-a"))

    assert server.mock.max_in_flight == 6
    assert [trial.state for trial in trials] == ["passed"] * 24


@pytest.mark.parametrize("concurrency", [1, 50])
async def test_runner__slow_reader_holds_back_the_calls(concurrency: int) -> None:
    plan = a_plan(a_case(repeat=1000), models=("mock-a",), concurrency=concurrency)
    async with (
        model_server() as server,
        a_pool(served(server, "mock-a")) as pool,
        aclosing(stream(plan, pool)) as trials,
    ):
        await anext(trials)
        await asyncio.sleep(0.3)

        assert server.mock.requests <= 3 * concurrency + 1


async def test_runner__1_500_trials_need_no_more_memory_than_200() -> None:
    async def peak(count: int) -> int:
        async with a_pool(echoing()) as pool:
            plan = a_plan(a_case(repeat=count), concurrency=50)
            tracemalloc.start()
            try:
                seen = 0
                async for _ in run(plan, pool=pool):
                    seen += 1
                assert seen == count
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    await peak(100)
    few, many = await peak(200), await peak(1500)

    assert many < few * 1.5 + 100_000


async def test_runner__wrong_answer_fails_and_an_empty_one_too() -> None:
    async with model_server() as server:
        plan = a_plan(a_case("case 0001"), models=("flaky-0.0-a", "filtered-a"))
        trials = await trials_of(plan, served(server, "flaky-0.0-a"), served(server, "filtered-a"))

    states = {trial.model: (trial.state, trial.error) for trial in trials}
    assert states == {"flaky-0.0-a": ("failed", None), "filtered-a": ("failed", None)}
    filtered = next(trial.completion for trial in trials if trial.model == "filtered-a")
    assert filtered is not None
    assert (filtered.text, filtered.finish_reason) == ("", "content_filter")


@pytest.mark.parametrize("model", ["status-500-a", "status-401-a", "nonsense-a", "html-a", "huge-8-a"])
async def test_runner__I17_provider_trouble_is_an_error_and_no_failure(model: str) -> None:
    async with model_server() as server:
        plan = a_plan(a_case("private words 0001"), models=(model, "mock-a"))
        trials = await trials_of(plan, served(server, model), served(server, "mock-a"))

    by_model = {trial.model: trial for trial in trials}
    error = by_model[model].error
    assert by_model[model].state == "error"
    assert error is not None
    assert error.kind == "provider"
    assert "private words" not in error.message
    assert by_model["mock-a"].state in ("passed", "failed")


async def test_runner__unreachable_and_unknown_models_are_errors_of_their_trials() -> None:
    plan = a_plan(models=("gone", "nobody", "echo"))

    trials = await trials_of(plan, echoing(), Model(name="gone", deployments=()))

    kinds = {trial.model: trial.error.kind if trial.error else None for trial in trials}
    assert kinds == {"gone": "provider", "nobody": "provider", "echo": None}


async def test_runner__slow_model_is_a_time_out() -> None:
    plan = a_plan(trial_timeout_seconds=0.1)

    (trial,) = await trials_of(plan, echoing(latency_ms=60_000))

    assert trial.state == "error"
    assert trial.error is not None
    assert trial.error.kind == "timeout"
    assert 90 <= trial.duration_ms < 1000


async def test_runner__slow_judge_is_a_time_out_that_keeps_the_answer() -> None:
    async with model_server() as server:
        plan = a_plan(
            a_case("case 0001", Assertion(type="llm-rubric", value="greets", model="slow-60000-a")),
            models=("mock-a",),
            trial_timeout_seconds=0.3,
        )
        (trial,) = await trials_of(plan, served(server, "mock-a"), served(server, "slow-60000-a"))

    assert trial.error is not None
    assert (trial.state, trial.error.kind) == ("error", "timeout")
    assert trial.completion is not None
    assert trial.completion.text.startswith("ANSWER-0001")


async def test_runner__graded_assertion_is_paid_for_by_its_trial() -> None:
    async with model_server() as server:
        plan = a_plan(a_case("case 0001", RUBRIC), a_case("case 0002"), models=("mock-a",), concurrency=2)
        trials = await trials_of(plan, served(server, "mock-a"), served(server, "judge-a"))

    graded, plain = sorted(trials, key=lambda trial: trial.case_index)
    assert graded.state == "passed"
    assert graded.judge_tokens > 0
    assert graded.judge_cost_usd > 0
    assert (plain.judge_tokens, plain.judge_cost_usd) == (0, 0.0)


async def test_runner__judges_trouble_is_an_error_and_no_failure() -> None:
    async with model_server() as server:
        plan = a_plan(
            a_case("case 0001", Assertion(type="llm-rubric", value="greets", model="mock-b")),
            models=("mock-a",),
        )
        (trial,) = await trials_of(plan, served(server, "mock-a"), served(server, "mock-b"))

    assert trial.state == "error"
    assert trial.error is not None
    assert trial.error.kind == "judge"
    assert trial.judge_tokens > 0, "what could not be used was paid for all the same"


async def test_runner__suite_names_the_judge() -> None:
    async with model_server() as server:
        suite = Suite(cases=(a_case("case 0001", Assertion(type="llm-rubric", value="greets")),), judge="judge-a")
        plan = Plan(instructions=INSTRUCTIONS, suite=suite, models=("mock-a",))
        (trial,) = await trials_of(plan, served(server, "mock-a"), served(server, "judge-a"))

    assert server.mock.by_model == {"mock-a": 1, "judge-a": 1}
    assert trial.state == "passed"


async def test_runner__broken_trial_is_an_internal_error_and_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # What no suite file lets through: a backend that gets options which it cannot read.
    broken = Deployment(
        id="echo/broken", backend="echo", model="broken", price=PRICE, options={"latency_ms": "private words"}
    )
    plan = a_plan(a_case("private words 0001"), models=("broken", "echo"))

    with caplog.at_level(logging.DEBUG):
        trials = await trials_of(plan, Model(name="broken", deployments=(broken,)), echoing())

    by_model = {trial.model: trial for trial in trials}
    assert by_model["echo"].state == "passed"
    assert by_model["broken"].error is not None
    assert (by_model["broken"].error.kind, by_model["broken"].error.message) == ("internal", BROKEN)
    (record,) = [record for record in caplog.records if record.name == "evals.runner"]
    assert record.levelno == logging.ERROR
    assert "private words" not in str(record.__dict__)
    assert record.__dict__["error_class"] == "ValidationError"


async def test_runner__closing_the_stream_leaves_no_task_and_no_call() -> None:
    plan = a_plan(a_case(repeat=100), models=("slow-60000-a", "mock-a"), concurrency=20)
    async with (
        model_server() as server,
        a_pool(served(server, "slow-60000-a"), served(server, "mock-a")) as pool,
    ):
        before = asyncio.all_tasks()
        trials = stream(plan, pool)
        await anext(trials)

        await trials.aclose()

        assert our_tasks(before) == set()
        async with asyncio.timeout(2):
            while server.mock.in_flight:
                await asyncio.sleep(0.01)


async def test_runner__cancelling_the_reader_leaves_no_task() -> None:
    plan = a_plan(a_case(repeat=100), concurrency=20)

    async def read(pool: ModelPool) -> None:
        async with aclosing(stream(plan, pool)) as trials:
            async for _ in trials:
                pass

    async with a_pool(echoing(latency_ms=60_000)) as pool:
        before = asyncio.all_tasks()
        reader = asyncio.create_task(read(pool))
        await asyncio.sleep(0.05)

        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

        assert our_tasks(before) == set()


def our_tasks(before: set[asyncio.Task[Any]]) -> set[str]:
    """Coroutines that run now and did not before, without those of the server in this process."""
    now = {task.get_coro().__qualname__ for task in asyncio.all_tasks() - before}  # type: ignore[union-attr] - coroutines have it
    return {name for name in now if not name.startswith("RequestHandler")}
