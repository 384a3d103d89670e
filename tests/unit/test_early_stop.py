"""Repeats that cannot change their row's verdict are not run; rows that are suspected get further trials."""

from __future__ import annotations

from collections import Counter

import pytest

from evals.catalogue import Catalogue
from evals.comparing import rerun_suspects, suspected_rows
from evals.comparison import RERUNS, Past, RowKey
from evals.models import CompletionRequest
from evals.outcome import build_outcome
from evals.pool import ModelPool
from evals.runner import run, run_again
from evals.statistics import Counts
from evals.types import Assertion, Case, Completion, RowIndex, Trial
from tests.unit.test_runner import a_case, a_plan, a_pool, echoing, trials_of

WRONG = Assertion(type="contains", value="something that echo never says")


def states(trials: list[Trial]) -> str:
    return "".join(trial.state[0] for trial in sorted(trials, key=lambda trial: trial.repeat_index))


def a_failing_case(**changes: float) -> Case:
    return a_case("case 0001", WRONG, **changes)


@pytest.mark.parametrize(
    ("case", "found"),
    [
        (a_case(repeat=5, pass_rate=0.4), "ppsss"),
        (a_case(repeat=5, pass_rate=1.0), "ppppp"),
        (a_failing_case(repeat=5, pass_rate=0.4), "ffffs"),
        (a_failing_case(repeat=5, pass_rate=1.0), "fssss"),
        (a_failing_case(repeat=5, pass_rate=0.0), "fssss"),
    ],
)
async def test_early_stop__ends_a_row_when_its_verdict_is_clear(case: Case, found: str) -> None:
    trials = await trials_of(a_plan(case, concurrency=1), echoing())

    assert states(trials) == found, "every repeat is there, run or skipped"


async def test_early_stop__gives_the_verdict_of_all_repeats() -> None:
    cases = (a_case(repeat=9, pass_rate=0.5), a_failing_case(repeat=9, pass_rate=0.5))
    found = {}
    for early_stop in (True, False):
        plan = a_plan(*cases, early_stop=early_stop)
        trials = await trials_of(plan, echoing())
        outcome = build_outcome(plan.suite, ["echo"], trials, total_duration_ms=1, engine_version="1")
        found[early_stop] = [row.state for row in outcome.test_cases]

    assert found[True] == found[False] == ["passed", "failed"]


async def test_early_stop__can_be_switched_off_for_outcomes_that_become_baselines() -> None:
    trials = await trials_of(a_plan(a_failing_case(repeat=5), early_stop=False, concurrency=1), echoing())

    assert states(trials) == "fffff"


async def test_early_stop__knows_the_rows_of_several_models_apart() -> None:
    plan = a_plan(a_failing_case(repeat=3), models=("a", "b"), concurrency=1)

    trials = await trials_of(plan, echoing("a"), echoing("b"))

    for model in ("a", "b"):
        assert states([trial for trial in trials if trial.model == model]) == "fss"


async def test_early_stop__runs_repeats_in_rounds_so_that_verdicts_are_known_in_time() -> None:
    plan = a_plan(*(a_failing_case(repeat=10) for _ in range(20)), concurrency=10, in_rounds=True)

    trials = await trials_of(plan, echoing())

    assert Counter(trial.state for trial in trials)["failed"] == 20, "one trial a row, although ten run at a time"


async def test_run_again__numbers_further_trials_after_the_cases_own() -> None:
    plan = a_plan(a_case("case 0001", repeat=2), a_case("case 0002"))
    async with a_pool(echoing()) as pool:
        trials = [trial async for trial in run_again(plan, [RowIndex(0, "echo")], times=3, pool=pool)]

    assert sorted(trial.repeat_index for trial in trials) == [2, 3, 4]
    assert {trial.case_index for trial in trials} == {0}


async def test_run_again__asks_past_every_cache() -> None:
    asked: list[CompletionRequest] = []

    class Watched(ModelPool):
        async def complete(self, model_name: str, request: CompletionRequest) -> Completion:
            asked.append(request)
            return await super().complete(model_name, request)

    plan = a_plan(a_case("case 0001"))
    async with Watched(Catalogue(default="echo", models=(echoing(),))) as pool:
        first = [trial async for trial in run(plan, pool=pool)]
        again = [trial async for trial in run_again(plan, [RowIndex(0, "echo")], times=2, pool=pool)]

    assert (len(first), len(again)) == (1, 2)
    assert [request.fresh for request in asked] == ["", *["run again for a comparison"] * 2]


async def test_rerun_suspects__tries_only_rows_that_stand_against_their_baseline() -> None:
    plan = a_plan(a_case("case 0001"), a_case("case 0002", WRONG))
    baseline = {RowKey(case.title, "echo"): Past(counts=Counts(30, 0)) for case in plan.suite.cases}
    async with a_pool(echoing()) as pool:
        first = [trial async for trial in run(plan, pool=pool)]
        again = [trial async for trial in rerun_suspects(plan, first, baseline=baseline, pool=pool)]
        rest = [trial async for trial in rerun_suspects(plan, [*first, *again[:3]], baseline=baseline, pool=pool)]

    assert {(trial.case_index, trial.state) for trial in again} == {(1, "failed")}
    assert (len(again), len(rest)) == (RERUNS, RERUNS - 3), "what a broken-off run has is not run again"
    assert suspected_rows(plan, [*first, *again], baseline=baseline) == (RowIndex(1, "echo"),)
    outcome = build_outcome(
        plan.suite, ["echo"], [*first, *again], total_duration_ms=1, engine_version="1", baseline=baseline
    )
    assert [row.change.status for row in outcome.test_cases if row.change] == ["stable", "regressed"]
