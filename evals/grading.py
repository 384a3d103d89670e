"""One answer -> its verdict: every assertion of a case is asked, then scores, weights and thresholds decide."""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import Awaitable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Event
from typing import Literal, cast

import msgspec
from msgspec import Struct

from evals.assertions import ASSERTIONS, Answer, AssertionType, Comparing, Deterministic, Judge, Judgement
from evals.assertions import Graded as GradedFunction
from evals.assertions._opinions import MAX_RUBRIC_PROMPT
from evals.errors import CannotJudge, CapReached, InvalidAssertion
from evals.panels import MAX_JUDGES, MAX_VOTES, Opinion, Vote, ask_panel, votes_of
from evals.transforming import NEEDS_CODE, check_transform, transformed
from evals.types import Assertion, AssertionResult, AssertionSet, Case, JsonValue, Panel, Suite, TrialError

NEGATION = "not-"
SET_TYPE = "assert-set"

# An answer of so many characters is judged beside the event loop; handing it over takes a tenth of a millisecond.
_LONG_ANSWER = 4_000
_LONG_VALUE = 4_000
_MOST_CHARACTERS = 500_000  # of an answer: as much as 100,000 tokens are
_THREADS = 2  # each one that works may keep the event loop waiting for 5 ms, Python's switch interval


class Graded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all assertions of a case say about one answer.

    `assertions` are in the order of the suite, a set before its members; with state "error" those that could be
    asked are still there, and the score is 0.
    """

    state: Literal["passed", "failed", "error"]
    score: float
    assertions: tuple[AssertionResult, ...] = ()
    named_scores: dict[str, float] = {}
    error: TrialError | None = None


def clamped(score: float) -> float:
    """The score of a trial: 0 to 1, whatever an author's code gave."""
    return min(1.0, max(0.0, score))


class Known(Struct, frozen=True):
    """An assertion type that was found, and whether the suite wrote `not-` before it."""

    type: AssertionType
    negated: bool


def find_assertion(type_: str) -> Known:
    """The family's entry for a type, matched exactly as written. Raises InvalidAssertion that names the closest."""
    if type_ in ASSERTIONS:
        return Known(ASSERTIONS[type_], negated=False)
    name = type_.removeprefix(NEGATION)
    if name != type_ and name in ASSERTIONS:
        return Known(ASSERTIONS[name], negated=True)
    raise InvalidAssertion(_unknown(type_))


def check_assertion(assertion: Assertion, *, allow_code: bool = False) -> None:
    """Raises InvalidAssertion unless the assertion can be asked of any answer. Its value is already rendered."""
    known = find_assertion(assertion.type)
    _require_allowed(known, assertion, allow_code=allow_code)
    _check_number(assertion, "weight", assertion.weight)
    if assertion.threshold is not None:
        _check_number(assertion, "threshold", assertion.threshold)
        if known.type.graded and assertion.threshold > 1:
            raise InvalidAssertion(f"{assertion.type}: `threshold` is a score and lies between 0 and 1")
    if assertion.panel is not None:
        _check_panel(known.type, assertion, assertion.panel)
    if assertion.rubric_prompt is not None:
        _check_rubric_prompt(known.type, assertion, assertion.rubric_prompt)
    if known.type.check:
        known.type.check(assertion)


def _require_allowed(known: Known, assertion: Assertion, *, allow_code: bool) -> None:
    if known.type.runs_code and not allow_code:
        raise InvalidAssertion(f"{assertion.type}: {NEEDS_CODE}")
    check_transform(assertion, allow_code=allow_code)


def _check_panel(type_: AssertionType, assertion: Assertion, panel: Panel) -> None:
    if not type_.asks:
        raise InvalidAssertion(f"{assertion.type}: asks no judge, so `judge` has no place here")
    if not 1 <= panel.votes <= MAX_VOTES or len(panel.models) > min(panel.votes, MAX_JUDGES):
        raise InvalidAssertion(
            f"{assertion.type}: `judge` has 1 to {MAX_VOTES} votes, and at most {MAX_JUDGES} models with a vote each"
        )


def _check_rubric_prompt(type_: AssertionType, assertion: Assertion, prompt: str) -> None:
    if not type_.asks or type_.compares:
        raise InvalidAssertion(f"{assertion.type}: takes no `rubricPrompt`, as no judge reads one answer here")
    if not prompt.strip() or len(prompt) > MAX_RUBRIC_PROMPT:
        raise InvalidAssertion(
            f"{assertion.type}: `rubricPrompt` must be a text of at most {MAX_RUBRIC_PROMPT:,} characters"
        )


def needs_fresh(case: Case) -> str | None:
    """The first type in the case that judges the call itself, so that a kept answer will not do."""
    for item in _flatten(case):
        try:
            known = find_assertion(item.type)
        except InvalidAssertion:
            continue
        if known.type.needs_fresh:
            return item.type
    return None


async def grade(
    case: Case,
    answer: Answer,
    judge: Judge | None,
    *,
    earlier: Sequence[Answer] = (),
    rivals: Sequence[Answer] = (),
    allow_code: bool = False,
    known: Mapping[int, Judgement | TrialError] | None = None,
) -> Graded:
    """The verdict on one answer. `allow_code` lets assertions run the code that the suite brings.

    `earlier` are the answers of a conversation before that one, a turn each; `rivals` what others answered to the same
    case. `known` has judgements that stand already, by `id` of the assertion: these are not asked again.

    Deterministic assertions are asked first, in order; then the graded ones, all at once. One that cannot be asked
    makes the case an error, never a failure. Raises nothing but cancellation.
    """
    asked: dict[int, Judgement | TrialError] = dict(known or {})
    graded: list[tuple[Assertion, Answer]] = []
    for part in parts_of(case):
        judged = answer if part.is_last else earlier[part.index]
        unasked = [assertion for assertion in part.singles if id(assertion) not in asked]
        others = [assertion for assertion in unasked if not is_graded(assertion)]
        outcomes = await _ask_in_order(others, judged, allow_code=allow_code)
        asked.update(zip(map(id, others), outcomes, strict=True))
        graded += [(assertion, judged) for assertion in unasked if is_graded(assertion)]
    opinions = await asyncio.gather(
        *(_ask_judge(assertion, (own, *rivals), judge, allow_code=allow_code) for assertion, own in graded)
    )
    asked.update(zip((id(assertion) for assertion, _ in graded), opinions, strict=True))
    return _combine(case, asked)


async def compare_answers(
    assertion: Assertion, answers: Sequence[Answer], judge: Judge, *, allow_code: bool
) -> list[Judgement | TrialError]:
    """What an assertion that compares says of each of the answers, or why nothing. Raises nothing but cancellation."""
    try:
        known = find_assertion(assertion.type)
        _require_allowed(known, assertion, allow_code=allow_code)
        opinion = await _opinion(known, assertion, answers, judge)
    except Exception as error:  # noqa: BLE001 - one plug-in's mistake must not end the whole run
        return [_explained(error, assertion)] * len(answers)
    return [_turned(judgement, negated=known.negated) for judgement in opinion]


class Part(Struct, frozen=True):
    """Assertions that judge the same answer of a case: that to turn `index`, counted from 0, or the last one."""

    items: tuple[Assertion | AssertionSet, ...]
    index: int
    is_last: bool
    turn: int | None = None  # as results show it

    @property
    def singles(self) -> list[Assertion]:
        """The assertions, those in sets included."""
        return [one for item in self.items for one in (item.assertions if isinstance(item, AssertionSet) else (item,))]


def parts_of(case: Case) -> list[Part]:
    """The parts of a case in the order of its results: each turn's own assertions, then those of the whole."""
    last = len(case.turns) - 1
    turns = [Part(turn.assertions, index, index == last, index + 1) for index, turn in enumerate(case.turns)]
    return [*turns, Part(case.assertions, max(last, 0), is_last=True)]


def _is_long_work(assertions: Sequence[Assertion], answer: Answer) -> bool:
    """Whether asking these could keep the event loop, and so everybody else's trials, waiting."""
    if not assertions:
        return False
    return len(answer.text) > _LONG_ANSWER or any(
        _is_slow(item) or (isinstance(item.value, str | list | tuple) and _size(item.value) > _LONG_VALUE)
        for item in assertions
    )


def _size(value: JsonValue) -> int:
    return len(value) if isinstance(value, str) else sum(len(item) if isinstance(item, str) else 1 for item in value)


def _is_slow(assertion: Assertion) -> bool:
    try:
        return find_assertion(assertion.type).type.slow
    except InvalidAssertion:
        return False


async def _ask_in_order(
    assertions: Sequence[Assertion], answer: Answer, *, allow_code: bool
) -> list[Judgement | TrialError]:
    """What each deterministic assertion says, turned round for `not-`; or why it says nothing."""
    if any(assertion.transform is not None for assertion in assertions):
        return [await _ask_of_transformed(assertion, answer, allow_code=allow_code) for assertion in assertions]
    if _is_long_work(assertions, answer):
        said = await _beside_the_loop(assertions, answer, allow_code=allow_code)
    else:
        said = _ask_each(assertions, answer, Event(), allow_code=allow_code)
    try:
        return [await _settled(item, assertion) for item, assertion in zip(said, assertions, strict=True)]
    finally:
        _drop(said)


async def _ask_of_transformed(assertion: Assertion, answer: Answer, *, allow_code: bool) -> Judgement | TrialError:
    try:
        check_transform(assertion, allow_code=allow_code)
        judged = await transformed(answer, assertion)
    except Exception as error:  # noqa: BLE001 - as below
        return _explained(error, assertion)
    plain = msgspec.structs.replace(assertion, transform=None)
    return (await _ask_in_order([plain], judged, allow_code=allow_code))[0]


async def _beside_the_loop(assertions: Sequence[Assertion], answer: Answer, *, allow_code: bool) -> list[Said]:
    """As _ask_each, in a thread; when the trial is cancelled, the thread ends after the assertion that it is at."""
    stop = Event()
    asking = _threads().submit(_ask_each, assertions, answer, stop, allow_code=allow_code)
    try:
        return await asyncio.wrap_future(asking)
    except asyncio.CancelledError:
        stop.set()
        asking.add_done_callback(lambda asked: None if asked.cancelled() else _drop(asked.result()))
        raise


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_THREADS, thread_name_prefix="assertions")


def _flatten(case: Case) -> Iterator[Assertion]:
    for part in parts_of(case):
        yield from part.singles


def needs_only_the_answer(assertion: Assertion) -> bool:
    """Whether it can be asked again without a model and without the author's code; True for an unknown type."""
    try:
        type_ = find_assertion(assertion.type).type
    except InvalidAssertion:
        return True
    return not (type_.graded or type_.runs_code or assertion.transform is not None)


def is_graded(assertion: Assertion) -> bool:
    """Whether a model judges it; False for an unknown type."""
    try:
        return find_assertion(assertion.type).type.graded
    except InvalidAssertion:
        return False


def judges_named(suite: Suite) -> tuple[str, ...]:
    """The models that the suite wants to be judged by, in its order; none for what leaves it to who runs it."""
    names = [suite.judge] if suite.judge else []
    for case in suite.cases:
        for assertion in filter(is_graded, _flatten(case)):
            names += assertion.panel.models if assertion.panel else ()
            names += [assertion.model] if assertion.model else []
    return tuple(dict.fromkeys(names))


def compared(case: Case) -> list[Assertion]:
    """The assertions of the case that compare its answers with each other; only the last answers are compared."""
    return [item for item in parts_of(case)[-1].singles if is_graded(item) and find_assertion(item.type).type.compares]


# What an assertion gives at first: its judgement, a promise of one that is kept elsewhere, or trouble.
Said = Judgement | Awaitable[Judgement] | TrialError


def _ask_each(assertions: Sequence[Assertion], answer: Answer, stop: Event, *, allow_code: bool) -> list[Said]:
    """What each deterministic assertion gives, in order. Nobody reads the list once `stop` is set."""
    said: list[Said] = []
    for assertion in assertions:
        if stop.is_set():
            break
        try:
            known = find_assertion(assertion.type)
            _require_allowed(known, assertion, allow_code=allow_code)
            _require_readable(answer, assertion)
            said.append(cast("Deterministic", known.type.judge)(answer, assertion))
        except Exception as error:  # noqa: BLE001 - one plug-in's mistake must not end the whole run
            said.append(_explained(error, assertion))
    return said


def _require_readable(answer: Answer, assertion: Assertion) -> None:
    if len(answer.text) > _MOST_CHARACTERS:
        raise CannotJudge(f"{assertion.type}: the answer has more than {_MOST_CHARACTERS:,} characters")


async def _settled(said: Said, assertion: Assertion) -> Judgement | TrialError:
    if isinstance(said, TrialError):
        return said
    try:
        judgement = said if isinstance(said, Judgement) else await said
    except Exception as error:  # noqa: BLE001 - as above
        return _explained(error, assertion)
    return _turned(judgement, negated=find_assertion(assertion.type).negated)


def _drop(said: Iterable[Said]) -> None:
    """Promises that nobody will wait for are closed, as Python warns of those that are forgotten."""
    for item in said:
        if isinstance(item, Coroutine):
            item.close()


async def _ask_judge(
    assertion: Assertion, answers: Sequence[Answer], judge: Judge | None, *, allow_code: bool
) -> Judgement | TrialError:
    """The judge's opinion on the first answer, turned round for `not-`; or why there is none."""
    try:
        known = find_assertion(assertion.type)
        _require_allowed(known, assertion, allow_code=allow_code)
        if judge is None:
            raise CannotJudge(f"{assertion.type}: no model is there to judge; name one as the judge", kind="judge")
        return _turned((await _opinion(known, assertion, answers, judge))[0], negated=known.negated)
    except Exception as error:  # noqa: BLE001 - as above
        return _explained(error, assertion)


async def ask_again(assertion: Assertion, answer: Answer, judge: Judge, *, allow_code: bool) -> Judgement | TrialError:
    """What a graded assertion says of one answer, or why nothing. Raises nothing but cancellation."""
    return await _ask_judge(assertion, (answer,), judge, allow_code=allow_code)


async def _opinion(known: Known, assertion: Assertion, answers: Sequence[Answer], judge: Judge) -> Opinion:
    """What the judge or all judges say of the answers, of the first one where nothing is compared."""
    judged = [await transformed(answer, assertion) for answer in (answers if known.type.compares else answers[:1])]

    async def ask(vote: Vote) -> Opinion:
        spec = msgspec.structs.replace(assertion, model=vote.model, panel=None)
        asked = judge.again(vote.times) if vote.times else judge
        if known.type.compares:
            return await cast("Comparing", known.type.judge)(judged, spec, asked)
        return [await cast("GradedFunction", known.type.judge)(judged[0], spec, asked)]

    if assertion.panel is None:
        return await ask(Vote(assertion.model, 0))
    return await ask_panel(votes_of(assertion.panel, model=assertion.model), ask)


def _explained(error: Exception, assertion: Assertion) -> TrialError:
    if isinstance(error, CannotJudge):
        return TrialError(kind=error.kind, message=error.message)
    if isinstance(error, CapReached):
        return TrialError(kind="cap", message=error.message)
    if isinstance(error, InvalidAssertion):
        return TrialError(kind="assertion", message=error.message)
    name = type(error).__name__
    return TrialError(kind="assertion", message=f"{assertion.type}: the assertion itself failed with {name}")


def _turned(judgement: Judgement, *, negated: bool) -> Judgement:
    if not negated or judgement.final:
        return judgement
    return Judgement(passed=not judgement.passed, score=1.0 - judgement.score, reason=judgement.reason)


# --- from judgements to a verdict


class _Component(Struct, frozen=True):
    """One thing that counts for the case: an assertion, or a set with its members and their named scores."""

    result: AssertionResult
    members: tuple[AssertionResult, ...] = ()
    named: dict[str, _Mean] = {}


class _Mean(Struct, frozen=True):
    """A weighted mean in the making."""

    total: float = 0.0
    weight: float = 0.0

    def with_value(self, value: float, weight: float) -> _Mean:
        return _Mean(self.total + value * weight, self.weight + weight)

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight > 0 else 0.0


def _combine(case: Case, asked: dict[int, Judgement | TrialError]) -> Graded:
    errors = [outcome for outcome in asked.values() if isinstance(outcome, TrialError)]
    parts = parts_of(case)
    if errors:
        return Graded(
            state="error",
            score=0.0,
            assertions=tuple(
                _of_turn(component.result, part)
                for part in parts
                for item in part.singles
                if (component := _single(item, asked[id(item)]))
            ),
            error=errors[0],
        )
    placed = [(_component(item, asked), part) for part in parts for item in part.items]
    components = [component for component, _ in placed]
    total = _total(components)
    # A case that asks for nothing is passed in full, whatever its threshold.
    score = total.value if components else 1.0
    passed = not components or _passes(components, score, threshold=case.threshold)
    return Graded(
        state="passed" if passed else "failed",
        score=score,
        assertions=tuple(
            _of_turn(result, part) for component, part in placed for result in (component.result, *component.members)
        ),
        named_scores={metric: mean.value for metric, mean in _named(components).items()},
    )


def _of_turn(result: AssertionResult, part: Part) -> AssertionResult:
    return result if part.turn is None else msgspec.structs.replace(result, turn=part.turn)


def _component(item: Assertion | AssertionSet, asked: dict[int, Judgement | TrialError]) -> _Component:
    if isinstance(item, Assertion):
        component = _single(item, asked[id(item)])
        assert component is not None  # noqa: S101 - errors were sorted out by the caller
        return component
    members = [_component(member, asked) for member in item.assertions]
    score = _total(members).value
    passed = _passes(members, score, threshold=item.threshold)
    result = AssertionResult(
        type=SET_TYPE,
        passed=passed,
        score=score,
        reason=_set_reason(members, score, threshold=item.threshold),
        weight=item.weight,
        metric=item.metric,
    )
    return _Component(result, tuple(member.result for member in members), _named(members))


def _single(assertion: Assertion, outcome: Judgement | TrialError) -> _Component | None:
    if isinstance(outcome, TrialError):
        return None
    return _Component(
        AssertionResult(
            type=assertion.type,
            # Weight 0 measures without deciding: the score is kept, the assertion cannot fail.
            passed=outcome.passed or assertion.weight == 0,
            score=float(outcome.score),  # a judge may say 1, which is 1.0 once it is stored and read again
            reason=outcome.reason,
            weight=float(assertion.weight),
            metric=assertion.metric,
        )
    )


def _passes(components: Sequence[_Component], score: float, *, threshold: float | None) -> bool:
    """With a threshold only the score counts, compared without tolerance; without one, nothing may have failed."""
    if threshold is not None:
        return score >= threshold
    return all(component.result.passed for component in components)


def _total(components: Sequence[_Component]) -> _Mean:
    mean = _Mean()
    for component in components:
        mean = mean.with_value(component.result.score, component.result.weight)
    return mean


def _named(components: Sequence[_Component]) -> dict[str, _Mean]:
    """Each metric's weighted mean; a set's own weight counts for its members' metrics too."""
    means: dict[str, _Mean] = {}
    for component in components:
        result = component.result
        if result.metric:
            means[result.metric] = means.get(result.metric, _Mean()).with_value(result.score, result.weight)
        for metric, inner in component.named.items():
            # A set that bears its members' metric speaks for them.
            if metric != result.metric:
                mean = means.get(metric, _Mean())
                means[metric] = mean.with_value(inner.value, inner.weight * result.weight)
    return means


def _set_reason(members: Sequence[_Component], score: float, *, threshold: float | None) -> str:
    passed = sum(member.result.passed for member in members)
    limit = f" (at least {threshold:g})" if threshold is not None else ""
    return f"{passed} of {len(members)} assertions passed, score {score:.2f}{limit}"


# --- words for the author


def _check_number(assertion: Assertion, field: str, number: float) -> None:
    if not math.isfinite(number) or number < 0:
        raise InvalidAssertion(f"{assertion.type}: `{field}` must be a number of at least 0")


def _unknown(type_: str) -> str:
    if not type_:
        return "the assertion has no `type`"
    shown = type_ if len(type_) <= 60 else type_[:57] + "..."
    names = list(ASSERTIONS)
    negation = NEGATION if type_.startswith(NEGATION) else ""
    close = difflib.get_close_matches(type_[:60].lower().removeprefix(NEGATION), names, 1)
    hint = f'; did you mean "{negation}{close[0]}"?' if close else ""
    return f'unknown assertion type "{shown}"{hint} Known are {", ".join(names)}; each also with "{NEGATION}" before it'
