"""Judges asked again about the same answers: how often they say the same, on a small sample, and what it costs."""

from __future__ import annotations

import json

import msgspec
import pytest

from evals.agreement import measure_agreement, sample_size
from evals.errors import CapReached
from evals.models import CompletionRequest
from evals.outcome import build_outcome
from evals.pool import ModelPool
from evals.runner import Plan, run
from evals.types import Agreement, Assertion, AssertionSet, Case, Completion, Message, Panel, Trial
from tests.standins.model_server import ModelServer, model_server
from tests.unit.test_runner import RUBRIC, a_plan, a_pool, echoing, served

YES = json.dumps({"pass": True, "score": 0.9, "reason": "r"})
NO = json.dumps({"pass": False, "score": 0.4, "reason": "r"})


def cases(number: int, *assertions: Assertion | AssertionSet) -> tuple[Case, ...]:
    checks = assertions or (RUBRIC,)
    return tuple(
        Case(title=f"c{n}", messages=(Message("user", f"case {n:04}"),), assertions=checks) for n in range(number)
    )


async def measured(plan: Plan, server: ModelServer, *, says: list[str]) -> Agreement | None:
    """After a run in which the judge liked everything, it is asked again and says this."""
    async with a_pool(echoing(), served(server, "judge-a"), served(server, "judge-b")) as pool:
        trials = [trial async for trial in run(plan, pool=pool)]
        server.mock.reset()
        server.mock.answers = list(says)
        return await measure_agreement(plan, trials, pool=pool)


@pytest.mark.parametrize(("verdicts", "size"), [(0, 0), (1, 1), (10, 1), (11, 2), (95, 10), (2_000, 10)])
def test_agreement__sample_is_one_of_ten_at_most_ten(verdicts: int, size: int) -> None:
    assert sample_size(verdicts) == size


async def test_agreement__share_of_equal_verdicts_with_what_asking_took() -> None:
    async with model_server() as server:
        server.mock.answers = [YES] * 40
        agreement = await measured(a_plan(*cases(40)), server, says=[YES, NO, YES, YES])

    assert agreement is not None
    assert (agreement.share, agreement.n) == (0.75, 4)
    assert server.mock.requests == 4
    assert agreement.tokens > 0
    assert agreement.cost_usd > 0


async def test_agreement__sample_is_spread_over_the_run() -> None:
    async with model_server() as server:
        server.mock.answers = [YES] * 30
        await measured(a_plan(*cases(30)), server, says=[YES] * 3)

    asked = [body["messages"][1]["content"] for body in server.mock.last_bodies]
    assert sorted(text[-38:].split()[1] for text in asked) != []
    assert [any(f"case {n:04}" in text for text in asked) for n in (0, 10, 20)] == [True] * 3


async def test_agreement__without_a_judge_nobody_is_asked() -> None:
    plain = Assertion(type="contains", value="case")
    silent = msgspec.structs.replace(RUBRIC, weight=0.0)
    async with model_server() as server:
        assert await measured(a_plan(*cases(3, plain, silent)), server, says=[]) is None

    assert server.mock.requests == 0


async def test_agreement__of_a_panel_is_the_whole_panels_and_of_a_set_its_members() -> None:
    panel = msgspec.structs.replace(RUBRIC, panel=Panel(models=("judge-a", "judge-b"), votes=3))
    async with model_server() as server:
        server.mock.answers = [YES] * 3
        agreement = await measured(a_plan(*cases(1, AssertionSet(assertions=(panel,)))), server, says=[NO, NO, YES])

    assert agreement is not None
    assert (agreement.share, agreement.n) == (0.0, 1)
    assert server.mock.requests == 3


async def test_agreement__not_form_is_compared_as_it_was_reported() -> None:
    negated = msgspec.structs.replace(RUBRIC, type="not-llm-rubric")
    async with model_server() as server:
        server.mock.answers = [YES]
        agreement = await measured(a_plan(*cases(1, negated)), server, says=[YES])

    assert agreement is not None
    assert agreement.share == 1.0


class CappedPool(ModelPool):
    """Admits so many calls."""

    left = 0

    async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
        if self.left == 0:
            raise CapReached("The cap is reached.")
        self.left -= 1
        return await super().complete(model_name, request)


async def test_agreement__money_cap_makes_the_sample_smaller_and_changes_no_verdict() -> None:
    plan = a_plan(*cases(30))
    async with model_server() as server, a_pool(echoing(), served(server, "judge-a")) as pool:
        server.mock.answers = [YES] * 40
        trials = [trial async for trial in run(plan, pool=pool)]
        capped = CappedPool(pool.catalogue)
        capped.left = 2
        async with capped:
            agreement = await measure_agreement(plan, trials, pool=capped)
            nothing = await measure_agreement(plan, trials, pool=capped)

    assert agreement is not None
    assert (agreement.share, agreement.n) == (1.0, 2)
    assert nothing is None
    outcome = build_outcome(
        plan.suite, plan.models, trials, total_duration_ms=1, engine_version="1", agreement=agreement
    )
    assert outcome.summary.conclusion == "passed"
    assert outcome.summary.judge_agreement == agreement
    assert outcome.summary.total_tokens == sum(map(used, trials)) + agreement.tokens


def used(trial: Trial) -> int:
    assert trial.completion is not None
    return (trial.completion.input_tokens or 0) + (trial.completion.output_tokens or 0) + trial.judge_tokens
