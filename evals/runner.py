"""Suite x models x repeats -> trials, as an async stream with bounded concurrency."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec
from msgspec import Struct

from evals.assertions import Answer
from evals.errors import CapReached, EngineError, ModelUnreachable, ProviderError, UnknownModel
from evals.grading import grade, needs_fresh
from evals.judging import JudgeSession, ModelJudge
from evals.models import CompletionRequest
from evals.packages import conversation
from evals.pool import ModelPool
from evals.scoring import count_verdicts, settled
from evals.statistics import Counts
from evals.types import Case, Completion, Instructions, Message, RowIndex, Suite, Trial, TrialError, TrialKey

log = logging.getLogger(__name__)

RUN_AGAIN = "run again for a comparison"
SUITE_SAYS_NO = "the suite says `cache: false`"
BROKEN = "The engine itself broke on this trial; the other trials are not affected. Its log says where."


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be run. `models` are public names of the pool's catalogue, each once."""

    instructions: Instructions
    suite: Suite
    models: tuple[str, ...]
    concurrency: int = 10  # trials at the same time
    trial_timeout_seconds: float = 120.0  # for the answer and its grading together
    # Repeats that cannot change their row's verdict any more are skipped. Such rows are no use as a baseline: how many
    # trials there are depends on what they said.
    early_stop: bool = True
    # Every case once before any case twice: then few repeats are under way when a verdict becomes clear. Not where
    # a cap may end the run: row by row, the first rows have verdicts by then; in rounds, none might.
    in_rounds: bool = False
    allow_code: bool = False  # whether assertions may run the suite's own code; never on a server


def trial_count(plan: Plan) -> int:
    """How many trials the whole plan has."""
    return sum(case.repeat for case in plan.suite.cases) * len(plan.models)


def keys_in_order(plan: Plan) -> Iterator[TrialKey]:
    """Every trial of the plan, in the order in which they are begun."""
    return (turn.key for turn in _turns(plan))


async def run(plan: Plan, *, pool: ModelPool, done: Collection[TrialKey] = ()) -> AsyncGenerator[Trial, None]:
    """Each trial as it finishes, but for those in `done`. A trial that breaks never ends the run.

    Memory holds about `concurrency` trials, whatever the size of the suite: who reads slowly slows the run.
    Closing or cancelling the stream cancels what runs and waits for its end.
    """
    known = frozenset(done)
    turns = (turn for turn in _turns(plan) if turn.key not in known)
    async with aclosing(_run_turns(plan, turns, pool, _Standings(plan) if plan.early_stop else None)) as trials:
        async for trial in trials:
            yield trial


async def run_again(
    plan: Plan, rows: Sequence[RowIndex], *, times: int, pool: ModelPool, done: Collection[TrialKey] = ()
) -> AsyncGenerator[Trial, None]:
    """`times` more trials of each of these rows, numbered after the case's own repeats; otherwise as `run`.

    Every model and judge is asked anew: a kept answer is no further draw.
    """
    known = frozenset(done)
    keys = (again_key(plan.suite, row, number) for number in range(times) for row in rows)
    turns = (_Turn(key, key.repeat_index, fresh=RUN_AGAIN) for key in keys if key not in known)
    async with aclosing(_run_turns(plan, turns, pool, None)) as trials:
        async for trial in trials:
            yield trial


def again_key(suite: Suite, row: RowIndex, number: int) -> TrialKey:
    """The key of a row's further trial, `number` counted from 0."""
    return TrialKey(row.case_index, row.model, suite.cases[row.case_index].repeat + number)


async def _run_turns(
    plan: Plan, turns: Iterator[_Turn], pool: ModelPool, standings: _Standings | None
) -> AsyncGenerator[Trial, None]:
    size = max(1, min(plan.concurrency, trial_count(plan)))
    results: asyncio.Queue[Trial | None] = asyncio.Queue(maxsize=size)
    judge = ModelJudge(pool, default_model=plan.suite.judge or pool.catalogue.default)
    work = _Work(plan, pool, judge, standings)
    workers = [asyncio.create_task(_work(turns, results, work)) for _ in range(size)]
    try:
        working = len(workers)
        while working:
            trial = await results.get()
            if trial is None:
                working -= 1
            else:
                yield trial
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


class _Turn(NamedTuple):
    """A trial to run. `sample` tells it from others that say the same to the same model; `fresh` as in a request."""

    key: TrialKey
    sample: int
    fresh: str = ""


def _turns(plan: Plan) -> Iterator[_Turn]:
    """Cases in the file's order, the models side by side, so that every model's results grow alike."""
    first_samples = _first_samples(plan.suite)
    for case_index, repeat_index in _rounds(plan.suite) if plan.in_rounds else _rows(plan.suite):
        for model in plan.models:
            key = TrialKey(case_index, model, repeat_index)
            yield _Turn(key, first_samples[case_index] + repeat_index)


class _Place(NamedTuple):
    case_index: int
    repeat_index: int


def _rows(suite: Suite) -> Iterator[_Place]:
    for case_index, case in enumerate(suite.cases):
        for repeat_index in range(case.repeat):
            yield _Place(case_index, repeat_index)


def _rounds(suite: Suite) -> Iterator[_Place]:
    for repeat_index in range(max((case.repeat for case in suite.cases), default=0)):
        for case_index, case in enumerate(suite.cases):
            if repeat_index < case.repeat:
                yield _Place(case_index, repeat_index)


class _Standings:
    """How the rows with repeats stand so far."""

    def __init__(self, plan: Plan) -> None:
        self._cases = plan.suite.cases
        self._counts: dict[RowIndex, Counts] = {}

    def needs(self, key: TrialKey) -> bool:
        """Whether the trial could still change its row's verdict."""
        counts = self._counts.get(RowIndex(key.case_index, key.model))
        return counts is None or settled(self._cases[key.case_index], counts) is None

    def note(self, trial: Trial) -> None:
        if self._cases[trial.case_index].repeat > 1:
            row = RowIndex(trial.case_index, trial.model)
            self._counts[row] = self._counts.get(row, Counts()).plus(count_verdicts([trial]))


class _Work(NamedTuple):
    """What the workers of one stream share. Without `standings` every trial is run."""

    plan: Plan
    pool: ModelPool
    judge: ModelJudge
    standings: _Standings | None

    async def trial(self, turn: _Turn) -> Trial:
        if self.standings is not None and not self.standings.needs(turn.key):
            return _not_needed(turn.key)
        fresh = turn.fresh or (SUITE_SAYS_NO if self.plan.suite.cache is False else "")
        session = self.judge.session(sample=turn.sample, fresh=fresh)
        trial = await _Attempted(turn, self.plan, self.pool, session).trial()
        if self.standings is not None:
            self.standings.note(trial)
        return trial


async def _work(turns: Iterator[_Turn], results: asyncio.Queue[Trial | None], work: _Work) -> None:
    for turn in turns:
        await results.put(await work.trial(turn))
    await results.put(None)


def _not_needed(key: TrialKey) -> Trial:
    return Trial(case_index=key.case_index, model=key.model, repeat_index=key.repeat_index, state="skipped")


def _first_samples(suite: Suite) -> list[int]:
    """For each case how many trials before it say the same, so that no two trials ever share a kept answer.

    Numbered among equals and not by place: a case that is put before another does not make that one new.
    """
    seen: Counter[tuple[Message, ...]] = Counter()
    firsts = []
    for case in suite.cases:
        firsts.append(seen[case.messages])
        seen[case.messages] += case.repeat
    return firsts


def why_fresh(suite: Suite, case: Case) -> str:
    """Why a kept answer will not do for this case; empty if it will."""
    if suite.cache is False:
        return SUITE_SAYS_NO
    if suite.temperature and not suite.cache:
        return f"temperature {suite.temperature:g} asks for a new answer each time"
    if type_ := needs_fresh(case):
        return f"{type_} needs an answer of its own"
    return ""


class _Attempted:
    """One trial under way; keeps the answer, so that trouble in its grading does not lose it."""

    def __init__(self, turn: _Turn, plan: Plan, pool: ModelPool, judge: JudgeSession) -> None:
        self._key, self._sample, self._fresh = turn
        self._plan = plan
        self._pool = pool
        self._judge = judge
        self._completion: Completion | None = None
        self._started = time.monotonic()

    async def trial(self) -> Trial:
        """What came of it. Raises nothing but cancellation."""
        limit = self._plan.trial_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                return await self._judged(self._plan.suite.cases[self._key.case_index])
        except TimeoutError:
            return self._error(TrialError(kind="timeout", message=f"The trial took longer than {limit:g} s."))
        except CapReached as error:
            return self._skipped(TrialError(kind="cap", message=error.message))
        except EngineError as error:
            failed = error.attempts if isinstance(error, ProviderError) else ()
            return msgspec.structs.replace(self._error(explain(error)), attempts=failed)
        except Exception as error:  # noqa: BLE001 - one broken trial must not end the run
            _log_broken(error, self._key)
            return self._error(TrialError(kind="internal", message=BROKEN))

    async def _judged(self, case: Case) -> Trial:
        messages = conversation(self._plan.instructions, case)
        self._completion = await self._pool.complete(
            self._key.model,
            CompletionRequest(
                messages=messages,
                temperature=self._plan.suite.temperature,
                max_tokens=self._plan.suite.max_tokens,
                timeout_seconds=self._plan.trial_timeout_seconds,
                sample=self._sample,
                fresh=self._fresh or why_fresh(self._plan.suite, case),
            ),
        )
        question = next((said.content for said in reversed(messages) if said.role == "user"), "")
        answer = Answer(text=self._completion.text, question=question, vars=case.vars, completion=self._completion)
        graded = await grade(case, answer, self._judge, allow_code=self._plan.allow_code)
        if graded.error is not None and graded.error.kind == "cap":
            return self._skipped(graded.error)
        return msgspec.structs.replace(
            self._bare(),
            state=graded.state,
            score=graded.score,
            assertions=graded.assertions,
            named_scores=graded.named_scores,
            error=graded.error,
        )

    def _error(self, error: TrialError) -> Trial:
        return msgspec.structs.replace(self._bare(), error=error)

    def _skipped(self, why: TrialError) -> Trial:
        return msgspec.structs.replace(self._bare(), state="skipped", error=why)

    def _bare(self) -> Trial:
        """The trial without a verdict: who, how long, and what was used so far."""
        return Trial(
            case_index=self._key.case_index,
            model=self._key.model,
            repeat_index=self._key.repeat_index,
            state="error",
            completion=self._completion,
            duration_ms=round((time.monotonic() - self._started) * 1000),
            judge_tokens=self._judge.tokens,
            judge_cost_usd=self._judge.cost_usd,
        )


def explain(error: EngineError) -> TrialError:
    """The public form of trouble that the engine has words for."""
    if isinstance(error, ProviderError):
        return TrialError(kind="timeout" if error.timed_out else "provider", message=error.message)
    if isinstance(error, UnknownModel | ModelUnreachable):
        return TrialError(kind="provider", message=error.message)
    return TrialError(kind="internal", message=error.message)


def _log_broken(error: Exception, key: TrialKey) -> None:
    """Class and place, never the error's own text: it may quote a prompt or an answer."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "unknown"
    log.error(
        "trial broke",
        extra={"case_index": key.case_index, "error_class": type(error).__name__, "place": place},
    )
