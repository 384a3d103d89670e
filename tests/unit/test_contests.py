"""`select-best`: answers of several models and prompts to one case wait for each other, and one of them wins."""

from __future__ import annotations

import msgspec
import pytest

from evals.comparing import suspected_rows
from evals.comparison import Past, RowKey
from evals.runner import run_again
from evals.statistics import Counts
from evals.suites import parse_suite
from evals.types import Assertion, Case, Message, RowIndex, Trial, TrialKey
from tests.standins.model_server import model_server
from tests.unit.test_runner import a_plan, a_pool, echoing, served, trials_of

BEST = Assertion(type="select-best", value="is the shortest", model="judge-a")


def a_contest(*others: Assertion, **changes: object) -> Case:
    case = Case(title="c", messages=(Message("user", "case 0001"),), assertions=(BEST, *others))
    return msgspec.structs.replace(case, **changes)


async def contested(*cases: Case, models: tuple[str, ...], done: dict[TrialKey, Trial] | None = None, **plan: object):
    """The trials, and what the judge was asked."""
    async with model_server() as server:
        known = [echoing(name, answer=f"I am {name}") if "echo" in name else served(server, name) for name in models]
        trials = await trials_of(
            a_plan(*cases, models=models, **plan), *known, served(server, "judge-a"), done=done or {}
        )
        return trials, list(server.mock.last_bodies)


def winners(trials: list[Trial]) -> list[TrialKey]:
    return [trial.key for trial in trials if trial.assertions and trial.assertions[0].passed]


@pytest.mark.parametrize("concurrency", [1, 10])
async def test_contest__one_answer_of_each_case_and_repeat_wins_and_the_judge_is_asked_once(concurrency: int) -> None:
    models = ("echo-a", "echo-b", "echo-c")
    trials, asked = await contested(a_contest(repeat=2), models=models, concurrency=concurrency)

    assert len(trials) == 6
    assert len(asked) == 2
    assert sorted(key.repeat_index for key in winners(trials)) == [0, 1]
    assert {trial.score for trial in trials} == {0.0, 1.0}
    text = asked[0]["messages"][1]["content"]
    assert all(f"I am {model}" in text for model in models)


async def test_contest__other_assertions_count_beside_it() -> None:
    trials, _ = await contested(a_contest(Assertion(type="contains", value="echo-a")), models=("echo-a", "echo-b"))

    assert sorted(trial.score for trial in trials) in ([0.0, 1.0], [0.5, 0.5])
    assert sum(trial.assertions[0].passed for trial in trials) == 1


async def test_contest__prompts_of_one_test_compete_too() -> None:
    suite = parse_suite(
        'prompts: ["Say {{x}}", "Name {{x}}"]\n'
        "tests:\n"
        "  - vars: {x: [one, two]}\n"
        "    assert: [{type: select-best, value: is short, provider: judge-a}]\n",
        path="s.yaml",
    )
    assert [case.contest for case in suite.cases] == [1, 1, 2, 2]
    trials, asked = await contested(*suite.cases, models=("echo-a",))

    assert len(asked) == 2
    won = {key.case_index for key in winners(trials)}
    assert len(won) == 2
    assert len(won & {0, 1}) == 1


async def test_contest__rival_without_an_answer_is_left_out() -> None:
    trials, asked = await contested(a_contest(), models=("echo-a", "echo-b", "status-401-a"))

    assert {trial.model: trial.state for trial in trials}["status-401-a"] == "error"
    assert len([body for body in asked if body["model"] == "judge-a"]) == 1
    assert len(winners(trials)) == 1


@pytest.mark.parametrize("models", [("echo-a",), ("echo-a", "status-401-a")])
async def test_contest__a_single_answer_is_an_error_and_no_winner(models: tuple[str, ...]) -> None:
    trials, _ = await contested(a_contest(), models=models)

    (alone,) = [trial for trial in trials if trial.model == "echo-a"]
    assert alone.state == "error"
    assert alone.error is not None
    assert "there is no other answer to compare with; test several models" in alone.error.message


async def test_contest__rows_whose_verdict_is_clear_still_enter_for_the_others() -> None:
    trials, asked = await contested(
        a_contest(repeat=4, pass_rate=0.25), models=("echo-a", "echo-b"), concurrency=1, early_stop=True
    )

    assert len(asked) == 4
    assert all(trial.state in ("passed", "failed") for trial in trials)


async def test_contest__run_that_goes_on_after_an_interruption_has_one_winner_in_all() -> None:
    models = ("echo-a", "echo-b", "echo-c")
    first, _ = await contested(a_contest(), models=models)
    (winner,) = winners(first)

    for known in ([winner], [trial.key for trial in first if trial.key != winner][:1],
                  [trial.key for trial in first if trial.key != winner]):  # fmt: skip
        done = {trial.key: trial for trial in first if trial.key in known}
        rest, asked = await contested(a_contest(), models=models, done=done)

        assert {trial.key for trial in rest} == {trial.key for trial in first} - set(known)
        assert len(winners(rest)) + (winner in known) == 1
        assert len(asked) == (1 if len(rest) == 2 and winner not in known else 0)


async def test_contest__not_select_best_is_passed_by_all_but_the_best() -> None:
    case = a_contest(assertions=(Assertion(type="not-select-best", value="is rude", model="judge-a"),))

    trials, _ = await contested(case, models=("echo-a", "echo-b", "echo-c"))

    assert len(winners(trials)) == 2


async def test_contest__is_not_run_again_alone_for_a_comparison() -> None:
    plan = a_plan(a_contest(), models=("echo-a", "echo-b"))
    trials, _ = await contested(a_contest(), models=("echo-a", "echo-b"))
    past = {RowKey("c", model): Past(counts=Counts(30, 0)) for model in plan.models}

    assert suspected_rows(plan, trials, baseline=past) == ()
    async with a_pool(echoing("echo-a"), echoing("echo-b")) as pool:
        again = [trial async for trial in run_again(plan, [RowIndex(0, "echo-a")], times=1, pool=pool)]
    assert [trial.state for trial in again] == ["error"], "there are no rivals"
