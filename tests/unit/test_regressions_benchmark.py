"""The regression benchmark draws from the mock's own truth, and its bounds tell a good rule from a bad one."""

from __future__ import annotations

import msgspec

from benchmarks.regressions import Draws, Setting, explore
from tests.standins.model_server import model_server
from tests.unit.test_runner import a_case, a_plan, served, trials_of


async def test_draws__are_what_the_mock_model_answers() -> None:
    draws, plan = Draws(0.6, "case 0007", seed=0), a_plan(a_case("case 0007", repeat=40), models=("flaky-0.6-a",))
    plan = msgspec.structs.replace(
        plan, instructions=msgspec.structs.replace(plan.instructions, system=""), concurrency=1, early_stop=False
    )
    async with model_server() as server:
        trials = await trials_of(plan, served(server, "flaky-0.6-a"))

    (prompt,) = {server.mock.last_bodies[0]["messages"][-1]["content"]}
    assert prompt == "case 0007"
    assert [trial.state == "passed" for trial in trials] == [draws.next() for _ in range(40)]


def test_explore__finds_breakage_and_leaves_harmless_changes_alone() -> None:
    harmless = explore(Setting(comparisons=20))
    broken = explore(Setting(comparisons=20, broken=5), first_seed=100)

    assert harmless.naive_alarms > 0.9
    assert harmless.alarms <= 0.1
    assert harmless.detected == 0
    assert broken.detected > 0.6
    assert 1.2 < harmless.calls < broken.calls < 2
