"""Runs rows again for a comparison: comparison.py decides which, runner.py does it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec

from evals.agents.tasks import AgentTask
from evals.comparison import RERUNS, Baseline, Past, Present, lacking, rerun_calls, suspects
from evals.grading import compared
from evals.outcome import present_rows
from evals.pool import ModelPool
from evals.runner import Plan, run_again, trial_count
from evals.scoring import count_verdicts
from evals.types import Instructions, RowIndex, Trial, TrialKey


def suspected_rows(
    plan: Plan, trials: Sequence[Trial], *, baseline: Baseline, calls: int | None = None
) -> tuple[RowIndex, ...]:
    """The rows to run again after these trials of the plan, within so many calls (None: as many as a run may add)."""
    indexes, rows = _rows(plan, trials)
    budget = rerun_calls(trial_count(plan)) if calls is None else calls
    chosen = (indexes[position] for position in suspects(rows, baseline, calls=budget))
    return tuple(index for index in chosen if _stands_alone(plan, index))


async def rerun_suspects(
    plan: Plan, trials: Sequence[Trial], *, baseline: Baseline, pool: ModelPool, calls: int | None = None
) -> AsyncGenerator[Trial, None]:
    """Each further trial as it finishes. Those of an earlier call that are in `trials` are not run again."""
    rows = suspected_rows(plan, trials, baseline=baseline, calls=calls)
    done = [trial.key for trial in trials]
    async with aclosing(run_again(plan, rows, times=RERUNS, pool=pool, done=done)) as stream:
        async for trial in stream:
            yield trial


class Before(NamedTuple):
    """The package as it was: what it told models and, where the run is of an agent, the agent that it was."""

    instructions: Instructions
    agent: AgentTask | None = None


class BaseRun(NamedTuple):
    """What is known after the package as it was has been run: the whole baseline, and the trials that completed it."""

    baseline: Baseline
    trials: tuple[Trial, ...]


def lacking_rows(plan: Plan, trials: Sequence[Trial], *, baseline: Baseline) -> tuple[RowIndex, ...]:
    """The failed rows of which the baseline knows too little, as many as half of a comparison's calls allow.

    The other half is for trying them anew.
    """
    indexes, rows = _rows(plan, trials)
    most = rerun_calls(trial_count(plan)) // (2 * RERUNS)
    chosen = (indexes[position] for position in lacking(rows, baseline))
    return tuple(index for index in chosen if _stands_alone(plan, index))[:most]


async def run_before(
    plan: Plan,
    rows: Sequence[RowIndex],
    *,
    base: Before,
    pool: ModelPool,
    done: Collection[TrialKey] = (),
) -> AsyncGenerator[Trial, None]:
    """Each trial of these rows with the package as it was, as it finishes, but for those in `done`."""
    before = msgspec.structs.replace(plan, instructions=base.instructions, agent=base.agent)
    async with aclosing(run_again(before, rows, times=RERUNS, pool=pool, done=done)) as stream:
        async for trial in stream:
            yield trial


def completed_baseline(
    plan: Plan, trials: Sequence[Trial], *, baseline: Baseline, rows: Sequence[RowIndex], ran: Sequence[Trial]
) -> Baseline:
    """The baseline, and what `ran` says of these rows instead of the little that it knew."""
    known = dict(baseline)
    for index, row in zip(*_rows(plan, trials), strict=True):
        if index in rows:
            counts = count_verdicts(trial for trial in ran if RowIndex(trial.case_index, trial.model) == index)
            known[row.key] = Past(counts=counts, case_digest=row.case_digest)
    return known


async def run_base(
    plan: Plan, trials: Sequence[Trial], *, base: Before, baseline: Baseline, pool: ModelPool
) -> BaseRun:
    """The baseline, completed by trials of the package as it was, for the failed rows of which it knows too little."""
    rows = lacking_rows(plan, trials, baseline=baseline)
    async with aclosing(run_before(plan, rows, base=base, pool=pool)) as stream:
        ran = [trial async for trial in stream]
    return BaseRun(completed_baseline(plan, trials, baseline=baseline, rows=rows, ran=ran), tuple(ran))


def _stands_alone(plan: Plan, index: RowIndex) -> bool:
    """Whether the row can be tried without the others: what is compared with rivals' answers cannot."""
    return not compared(plan.suite.cases[index.case_index])


class _Rows(NamedTuple):
    indexes: list[RowIndex]
    rows: tuple[Present, ...]


def _rows(plan: Plan, trials: Sequence[Trial]) -> _Rows:
    """The plan's rows by their own repeats, in the outcome's order."""
    own = [trial for trial in trials if trial.repeat_index < plan.suite.cases[trial.case_index].repeat]
    indexes = [RowIndex(case, model) for case in range(len(plan.suite.cases)) for model in plan.models]
    return _Rows(indexes, present_rows(plan.suite, plan.models, own))
