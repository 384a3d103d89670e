"""Runs the rows again that stand against their baseline: comparison.py decides which, runner.py does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from evals.comparison import RERUNS, Baseline, rerun_calls, suspects
from evals.outcome import present_rows
from evals.pool import ModelPool
from evals.runner import Plan, run_again, trial_count
from evals.types import RowIndex, Trial


def suspected_rows(
    plan: Plan, trials: Sequence[Trial], *, baseline: Baseline, calls: int | None = None
) -> tuple[RowIndex, ...]:
    """The rows to run again after these trials of the plan, within so many calls (None: as many as a run may add)."""
    own = [trial for trial in trials if trial.repeat_index < plan.suite.cases[trial.case_index].repeat]
    budget = rerun_calls(trial_count(plan)) if calls is None else calls
    indexes = [RowIndex(case, model) for case in range(len(plan.suite.cases)) for model in plan.models]
    rows = present_rows(plan.suite, plan.models, own)
    return tuple(indexes[position] for position in suspects(rows, baseline, calls=budget))


async def rerun_suspects(
    plan: Plan, trials: Sequence[Trial], *, baseline: Baseline, pool: ModelPool, calls: int | None = None
) -> AsyncGenerator[Trial, None]:
    """Each further trial as it finishes. Those of an earlier call that are in `trials` are not run again."""
    rows = suspected_rows(plan, trials, baseline=baseline, calls=calls)
    done = [trial.key for trial in trials]
    async with aclosing(run_again(plan, rows, times=RERUNS, pool=pool, done=done)) as stream:
        async for trial in stream:
            yield trial
