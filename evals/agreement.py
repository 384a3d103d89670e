"""How far the judges of a run agree with themselves: some verdicts are asked for again, of the same answers.

This comes after the last trial, so that it never takes a trial's money or time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from evals.assertions import Answer, Judgement
from evals.grading import ask_again, find_assertion, is_graded, parts_of
from evals.judging import JudgeSession, ModelJudge, Patience
from evals.packages import conversation
from evals.pool import ModelPool
from evals.runner import SUITE_SAYS_NO, Plan, answers_of, first_samples
from evals.types import Agreement, Assertion, AssertionResult, AssertionSet, Case, Trial

MOST_ASKED: Final = 10  # verdicts of one run
_ONE_IN: Final = 10
LONGEST_SECONDS: Final = 60.0  # for all of them, which are asked at the same time
# Tells these opinions from the first ones, and those from further votes, for a cache.
_TIMES = 100


class _Verdict(NamedTuple):
    trial: Trial
    assertion: Assertion
    answer: Answer
    passed: bool


async def measure_agreement(
    plan: Plan, trials: Iterable[Trial], *, pool: ModelPool, seconds: float = LONGEST_SECONDS
) -> Agreement | None:
    """The share of equal verdicts on a sample of these trials: one of ten, at most 10. None where none was given again.

    What a cap, trouble or the time limit of `seconds` leaves out is no verdict. Raises nothing but cancellation.
    """
    verdicts = _spread(list(_verdicts(plan, trials)))
    # What cannot be used here is left out, and no verdict hangs on it.
    patience = Patience(free=0, opinions_for_one=0)
    judge = ModelJudge(pool, default_model=plan.suite.judge or pool.catalogue.default, patience=patience)
    firsts = first_samples(plan.suite)
    fresh = SUITE_SAYS_NO if plan.suite.cache is False else ""
    sessions = [judge.session(sample=firsts[v.trial.case_index] + v.trial.repeat_index, fresh=fresh) for v in verdicts]
    asked = [
        asyncio.create_task(_ask(verdict, session, plan)) for verdict, session in zip(verdicts, sessions, strict=True)
    ]
    try:
        if asked:
            await asyncio.wait(asked, timeout=min(seconds, LONGEST_SECONDS))
    finally:
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    alike = [said for task in asked if not task.cancelled() and (said := task.result()) is not None]
    if not alike:
        return None
    return Agreement(
        share=round(sum(alike) / len(alike), 6),
        n=len(alike),
        tokens=sum(session.tokens for session in sessions),
        cost_usd=round(sum(session.cost_usd for session in sessions), 9),
    )


async def _ask(verdict: _Verdict, session: JudgeSession, plan: Plan) -> bool | None:
    """Whether the second verdict is the first one; None if there is none."""
    judge = session.again(_TIMES)
    said = await ask_again(verdict.assertion, verdict.answer, judge, allow_code=plan.allow_code)
    return said.passed == verdict.passed if isinstance(said, Judgement) else None


def sample_size(count: int) -> int:
    """How many of so many verdicts are asked for again."""
    return min(MOST_ASKED, -(-count // _ONE_IN))


def _spread(verdicts: Sequence[_Verdict]) -> list[_Verdict]:
    """The sample, spread evenly over the run."""
    size = sample_size(len(verdicts))
    return [verdicts[position * len(verdicts) // size] for position in range(size)]


def _verdicts(plan: Plan, trials: Iterable[Trial]) -> Iterator[_Verdict]:
    """What judges said in these trials, in the order of cases, models and repeats."""
    order = {name: position for position, name in enumerate(plan.models)}
    for trial in sorted(trials, key=lambda t: (t.case_index, order[t.model], t.repeat_index)):
        if trial.completion is None or trial.state not in ("passed", "failed"):
            continue
        case = plan.suite.cases[trial.case_index]
        answers = list(
            answers_of(case, conversation(plan.instructions, case), (*trial.earlier, trial.completion)),
        )
        for assertion, index, result in _with_results(case, trial.assertions):
            if repeats_itself(assertion):
                yield _Verdict(trial, assertion, answers[index], result.passed)


def _with_results(case: Case, results: tuple[AssertionResult, ...]) -> Iterator[tuple[Assertion, int, AssertionResult]]:
    """Each assertion of the case with the place of its answer and what it said."""
    left = iter(results)
    for part in parts_of(case):
        for item in part.items:
            if isinstance(item, AssertionSet):
                next(left, None)  # the set's own result comes before its members'
            for single in item.assertions if isinstance(item, AssertionSet) else (item,):
                result = next(left, None)
                if result is not None:
                    yield single, part.index, result


def repeats_itself(assertion: Assertion) -> bool:
    """Whether its judge can be asked again about one answer; a weight of 0 hides what it said."""
    if not is_graded(assertion) or assertion.weight == 0:
        return False
    type_ = find_assertion(assertion.type).type
    return type_.asks and not type_.compares
