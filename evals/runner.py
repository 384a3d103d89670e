"""Suite x models x repeats -> trials, as an async stream with bounded concurrency."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

import msgspec
from msgspec import Struct

from evals.agents.tasks import AgentTask
from evals.assertions import Answer, Judgement
from evals.errors import CapReached, EngineError, ModelUnreachable, ProviderError, UnknownModel
from evals.grading import clamped, compare_answers, compared, find_assertion, grade, needs_fresh
from evals.judging import JudgeSession, ModelJudge
from evals.models import CompletionRequest
from evals.packages import conversation
from evals.pool import ModelPool
from evals.scoring import count_verdicts, settled
from evals.statistics import Counts
from evals.types import Assertion, Case, Completion, Instructions, Message, RowIndex, Suite, Trial, TrialError, TrialKey

log = logging.getLogger(__name__)

RUN_AGAIN = "run again for a comparison"
SUITE_SAYS_NO = "the suite says `cache: false`"
AN_AGENT = "an agent is asked anew each time"
EMPTY_ANSWER = "(no answer)"  # in a conversation's history, as some providers refuse an empty turn
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
    agent: AgentTask | None = None  # the package as an agent; None: models are asked by themselves
    allow_code: bool = False  # whether assertions may run the suite's own code; never on a server


def trial_count(plan: Plan) -> int:
    """How many trials the whole plan has."""
    return sum(case.repeat for case in plan.suite.cases) * len(plan.models)


Done = Collection[TrialKey] | Mapping[TrialKey, Trial]


def keys_in_order(plan: Plan) -> Iterator[TrialKey]:
    """Every trial of the plan, in the order in which they are begun."""
    return (turn.key for turn in _turns(plan))


async def run(plan: Plan, *, pool: ModelPool, done: Done = ()) -> AsyncGenerator[Trial, None]:
    """Each trial as it finishes, but for those in `done`. A trial that breaks never ends the run.

    Answers that are compared with each other (`select-best`) wait for the last of them. Where some of these are done,
    `done` must hold their trials.
    Memory holds about `concurrency` trials, whatever the size of the suite: who reads slowly slows the run.
    Closing or cancelling the stream cancels what runs and waits for its end.
    """
    known = frozenset(done)
    turns = (turn for turn in _turns(plan) if turn.key not in known)
    standings = _Standings(plan) if plan.early_stop else None
    async with aclosing(_run_turns(plan, turns, pool, standings, _Contests(plan, done))) as trials:
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
    async with aclosing(_run_turns(plan, turns, pool, None, _Contests(plan, (), alone=True))) as trials:
        async for trial in trials:
            yield trial


def again_key(suite: Suite, row: RowIndex, number: int) -> TrialKey:
    """The key of a row's further trial, `number` counted from 0."""
    return TrialKey(row.case_index, row.model, suite.cases[row.case_index].repeat + number)


async def _run_turns(
    plan: Plan, turns: Iterator[_Turn], pool: ModelPool, standings: _Standings | None, contests: _Contests
) -> AsyncGenerator[Trial, None]:
    size = max(1, min(plan.concurrency, trial_count(plan)))
    results: asyncio.Queue[Trial | None] = asyncio.Queue(maxsize=size)
    judge = ModelJudge(pool, default_model=plan.suite.judge or pool.catalogue.default)
    work = _Work(plan, pool, judge, standings, contests)
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
    firsts = first_samples(plan.suite)
    for case_index, repeat_index in _rounds(plan.suite) if plan.in_rounds else _rows(plan.suite):
        for model in plan.models:
            key = TrialKey(case_index, model, repeat_index)
            yield _Turn(key, firsts[case_index] + repeat_index)


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
        """Whether the trial could still change its row's verdict, or that of another model's."""
        if compared(self._cases[key.case_index]):
            return True
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
    contests: _Contests

    async def trials(self, turn: _Turn) -> Sequence[Trial]:
        """What is finished with this turn: its trial, or those of a whole contest that it was the last one of."""
        if self.standings is not None and not self.standings.needs(turn.key):
            return [_not_needed(turn.key)]
        fresh = turn.fresh or (SUITE_SAYS_NO if self.plan.suite.cache is False else "")
        session = self.judge.session(sample=turn.sample, fresh=fresh)
        attempted = _Attempted(turn, self.plan, self.pool, session)
        await attempted.answer()
        finished = [attempted]
        known: dict[TrialKey, Known] = {}
        if compared(self.plan.suite.cases[turn.key.case_index]):
            contest = self.contests.enter(attempted)
            if contest is None:
                return []
            finished = contest.entered
            known = await contest.judged(session, self.plan)
        trials = await asyncio.gather(*(one.trial(known.get(one.key, {})) for one in finished))
        if self.standings is not None:
            for trial in trials:
                self.standings.note(trial)
        return trials


async def _work(turns: Iterator[_Turn], results: asyncio.Queue[Trial | None], work: _Work) -> None:
    for turn in turns:
        for trial in await work.trials(turn):
            await results.put(trial)
    await results.put(None)


Known = dict[int, Judgement | TrialError]


class _ContestKey(NamedTuple):
    group: tuple[str, int]
    repeat_index: int


class _Contest:
    """The answers to one case, of all models and prompts, in one repeat."""

    def __init__(self, *, expected: int, done: Sequence[Trial]) -> None:
        self.entered: list[_Attempted] = []
        self._expected = expected
        self._done = done

    @property
    def is_complete(self) -> bool:
        return len(self.entered) == self._expected

    async def judged(self, judge: JudgeSession, plan: Plan) -> dict[TrialKey, Known]:
        """What each entrant's comparing assertions say of it."""
        self.entered.sort(key=lambda one: (one.key.case_index, plan.models.index(one.key.model)))
        answered = [(one, answer) for one in self.entered if (answer := one.last_answer) is not None]
        known: dict[TrialKey, Known] = {one.key: {} for one in self.entered}
        cases = plan.suite.cases
        for position in range(len(compared(cases[self.entered[0].key.case_index]))):
            specs = [compared(cases[one.key.case_index])[position] for one, _ in answered]
            said = await self._said([answer for _, answer in answered], specs, judge, plan, position=position)
            for (one, _), spec, judgement in zip(answered, specs, said, strict=True):
                known[one.key][id(spec)] = judgement
        return known

    async def _said(
        self,
        answers: Sequence[Answer],
        specs: Sequence[Assertion],
        judge: JudgeSession,
        plan: Plan,
        *,
        position: int,
    ) -> Sequence[Judgement | TrialError]:
        """Answers that were judged before the run was interrupted keep their verdict: at most one is the best."""
        if not specs:
            return []
        earlier = [trial for trial in self._done if trial.state in ("passed", "failed")]
        if not earlier:
            return await _in_time(compare_answers(specs[0], answers, judge, allow_code=plan.allow_code), specs, plan)
        turned = find_assertion(specs[0].type).negated
        has_winner = any(_was_best(trial, plan, position) for trial in earlier)
        if has_winner or len(answers) == 1:
            reason = "another answer was judged to be the best" if has_winner else "no other answer is as good"
            best = not has_winner
            return [Judgement(passed=best != turned, score=float(best != turned), reason=reason)] * len(answers)
        return await _in_time(compare_answers(specs[0], answers, judge, allow_code=plan.allow_code), specs, plan)


def _was_best(trial: Trial, plan: Plan, position: int) -> bool:
    spec = compared(plan.suite.cases[trial.case_index])[position]
    scores = [result.score for result in trial.assertions if result.type == spec.type]
    return bool(scores) and (scores[0] == 1.0) != find_assertion(spec.type).negated


async def _in_time(
    asked: Awaitable[list[Judgement | TrialError]], specs: Sequence[Assertion], plan: Plan
) -> list[Judgement | TrialError]:
    limit = plan.trial_timeout_seconds
    try:
        async with asyncio.timeout(limit):
            return await asked
    except TimeoutError:
        return [TrialError(kind="timeout", message=f"Comparing the answers took longer than {limit:g} s.")] * len(specs)


class _Contests:
    """Which answers are compared with which, and who is still missing."""

    def __init__(self, plan: Plan, done: Done, *, alone: bool = False) -> None:
        """`alone`: single rows are run, so that nobody waits for others that do not come."""
        self._alone = alone
        self._cases = plan.suite.cases
        self._models = plan.models
        self._done = done
        self._open: dict[_ContestKey, _Contest] = {}

    def enter(self, attempted: _Attempted) -> _Contest | None:
        """The contest if this was the last of its answers, else None: whoever comes last goes on with it."""
        key = _ContestKey(self._group(attempted.key.case_index), attempted.key.repeat_index)
        contest = self._open.get(key)
        if contest is None:
            contest = self._open[key] = self._contest(key)
        contest.entered.append(attempted)
        return self._open.pop(key) if contest.is_complete or self._alone else None

    def _group(self, case_index: int) -> tuple[str, int]:
        contest = self._cases[case_index].contest
        return ("case", case_index) if contest is None else ("contest", contest)

    def _contest(self, key: _ContestKey) -> _Contest:
        indexes = [index for index in range(len(self._cases)) if self._group(index) == key.group]
        members = [TrialKey(index, model, key.repeat_index) for index in indexes for model in self._models]
        done = [member for member in members if member in self._done]
        stored = [self._done[member] for member in done] if isinstance(self._done, Mapping) else []
        return _Contest(expected=len(members) - len(done), done=stored)


def _not_needed(key: TrialKey) -> Trial:
    return Trial(case_index=key.case_index, model=key.model, repeat_index=key.repeat_index, state="skipped")


def first_samples(suite: Suite) -> list[int]:
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
    """One trial under way; keeps the answers, so that trouble in its grading does not lose them."""

    def __init__(self, turn: _Turn, plan: Plan, pool: ModelPool, judge: JudgeSession) -> None:
        self.key, self._sample, self._fresh = turn
        self._case = plan.suite.cases[self.key.case_index]
        self._plan = plan
        self._pool = pool
        self._judge = judge
        self._completions: list[Completion] = []
        self._answers: list[Answer] = []
        self._seconds = 0.0  # at work before; waiting for others' answers is not counted
        self._since: float | None = None  # at work now
        self._over: Trial | None = None  # it ended without an answer

    @property
    def last_answer(self) -> Answer | None:
        """The answer that is judged; None while there is none."""
        return self._answers[-1] if self._answers else None

    async def answer(self) -> None:
        """The model has answered, to all that the user says. Raises nothing but cancellation."""
        self._over = await self._within_limits(self._ask)

    async def trial(self, known: Known) -> Trial:
        """What came of it; `known` as in `grade`. Raises nothing but cancellation."""
        if self._over is None:
            self._over = await self._within_limits(lambda: self._judged(known))
        return self._over or self._bare()

    async def _within_limits(self, work: Callable[[], Awaitable[Trial | None]]) -> Trial | None:
        """What the work gives in the time that the trial has left, or the trial as it ended on the way."""
        limit = self._plan.trial_timeout_seconds
        self._since = time.monotonic()
        try:
            async with asyncio.timeout(max(0.0, limit - self._seconds)):
                return await work()
        except TimeoutError:
            return self._error(TrialError(kind="timeout", message=f"The trial took longer than {limit:g} s."))
        except CapReached as error:
            return self._skipped(TrialError(kind="cap", message=error.message))
        except EngineError as error:
            failed = error.attempts if isinstance(error, ProviderError) else ()
            return msgspec.structs.replace(self._error(explain(error)), attempts=failed)
        except Exception as error:  # noqa: BLE001 - one broken trial must not end the run
            _log_broken(error, self.key)
            return self._error(TrialError(kind="internal", message=BROKEN))
        finally:
            self._seconds += time.monotonic() - self._since
            self._since = None

    async def _ask(self) -> None:
        # An agent finds the package in its own project folder, and is asked one thing.
        is_agent = self._plan.agent is not None
        messages = first = self._case.messages if is_agent else conversation(self._plan.instructions, self._case)
        self._completions.append(await self._complete(messages))
        for turn in self._case.turns[1:]:
            said = Message("assistant", self._completions[-1].text or EMPTY_ANSWER)
            messages = (*messages, said, Message("user", turn.content))
            self._completions.append(await self._complete(messages))
        self._answers = list(answers_of(self._case, first, self._completions))

    async def _complete(self, messages: tuple[Message, ...]) -> Completion:
        agent = self._plan.agent
        return await self._pool.complete(
            self.key.model,
            CompletionRequest(
                messages=messages,
                temperature=self._plan.suite.temperature,
                max_tokens=self._plan.suite.max_tokens,
                timeout_seconds=self._plan.trial_timeout_seconds,
                sample=self._sample,
                # What it does depends on more than is said: its files, the tools' answers, the day.
                fresh=self._fresh or (AN_AGENT if agent is not None else why_fresh(self._plan.suite, self._case)),
                agent=agent,
            ),
        )

    async def _judged(self, known: Known) -> Trial:
        *earlier, answer = self._answers
        graded = await grade(
            self._case, answer, self._judge, earlier=earlier, allow_code=self._plan.allow_code, known=known
        )
        if graded.error is not None and graded.error.kind == "cap":
            return self._skipped(graded.error)
        return msgspec.structs.replace(
            self._bare(),
            state=graded.state,
            score=clamped(graded.score),
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
        working = 0.0 if self._since is None else time.monotonic() - self._since
        is_whole = len(self._completions) == max(1, len(self._case.turns))
        return Trial(
            case_index=self.key.case_index,
            model=self.key.model,
            repeat_index=self.key.repeat_index,
            state="error",
            completion=self._completions[-1] if is_whole else None,
            earlier=tuple(self._completions[:-1] if is_whole else self._completions),
            duration_ms=round((self._seconds + working) * 1000),
            judge_tokens=self._judge.tokens,
            judge_cost_usd=self._judge.cost_usd,
        )


def answers_of(case: Case, messages: Sequence[Message], completions: Sequence[Completion]) -> Iterator[Answer]:
    """What is judged of each of these answers to the case, whose conversation began with these messages."""
    first = next((said.content for said in reversed(messages) if said.role == "user"), "")
    questions = [first, *(turn.content for turn in case.turns[1:])]
    for question, completion in zip(questions, completions, strict=True):
        yield Answer(text=completion.text, question=question, vars=case.vars, completion=completion)


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
