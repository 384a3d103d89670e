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

from msgspec import Struct

from evals.assertions import ASSERTIONS, Answer, AssertionType, Deterministic, Judge, Judgement
from evals.assertions import Graded as GradedFunction
from evals.errors import CannotJudge, CapReached, InvalidAssertion
from evals.types import Assertion, AssertionResult, AssertionSet, Case, JsonValue, TrialError

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
    if known.type.check:
        known.type.check(assertion)


def _require_allowed(known: Known, assertion: Assertion, *, allow_code: bool) -> None:
    if known.type.runs_code and not allow_code:
        raise InvalidAssertion(
            f"{assertion.type}: runs the author's code, which happens on the author's own machine only: "
            "`prpm test --local --allow-code`"
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
    allow_code: bool = False,
    known: Mapping[int, Judgement] | None = None,
) -> Graded:
    """The verdict on one answer. `allow_code` lets assertions run the code that the suite brings.

    `known` has judgements that stand already, by `id` of the assertion: these are not asked again.

    Deterministic assertions are asked first, in order; then the graded ones, all at once. One that cannot be asked
    makes the case an error, never a failure. Raises nothing but cancellation.
    """
    singles = tuple(_flatten(case))
    asked: dict[int, Judgement | TrialError] = dict(known or {})
    unasked = [assertion for assertion in singles if id(assertion) not in asked]
    graded = [assertion for assertion in unasked if _is_graded(assertion)]
    others = [assertion for assertion in unasked if not _is_graded(assertion)]
    outcomes = await _ask_in_order(others, answer, allow_code=allow_code)
    opinions = await asyncio.gather(
        *(_ask_judge(assertion, answer, judge, allow_code=allow_code) for assertion in graded)
    )
    asked.update(zip(map(id, (*others, *graded)), (*outcomes, *opinions), strict=True))
    return _combine(case, asked)


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
    if _is_long_work(assertions, answer):
        said = await _beside_the_loop(assertions, answer, allow_code=allow_code)
    else:
        said = _ask_each(assertions, answer, Event(), allow_code=allow_code)
    try:
        return [await _settled(item, assertion) for item, assertion in zip(said, assertions, strict=True)]
    finally:
        _drop(said)


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
    for item in case.assertions:
        if isinstance(item, AssertionSet):
            yield from item.assertions
        else:
            yield item


def needs_only_the_answer(assertion: Assertion) -> bool:
    """Whether it can be asked again without a model and without the author's code; True for an unknown type."""
    try:
        type_ = find_assertion(assertion.type).type
    except InvalidAssertion:
        return True
    return not (type_.graded or type_.runs_code)


def _is_graded(assertion: Assertion) -> bool:
    try:
        return find_assertion(assertion.type).type.graded
    except InvalidAssertion:
        return False


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
    assertion: Assertion, answer: Answer, judge: Judge | None, *, allow_code: bool
) -> Judgement | TrialError:
    """The judge's opinion on the answer, turned round for `not-`; or why there is none."""
    try:
        known = find_assertion(assertion.type)
        _require_allowed(known, assertion, allow_code=allow_code)
        if judge is None:
            raise CannotJudge(f"{assertion.type}: no model is there to judge; name one as the judge", kind="judge")
        judgement = await cast("GradedFunction", known.type.judge)(answer, assertion, judge)
        return _turned(judgement, negated=known.negated)
    except Exception as error:  # noqa: BLE001 - as above
        return _explained(error, assertion)


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
    if errors:
        judged = (_single(item, asked[id(item)]) for item in _flatten(case))
        return Graded(
            state="error",
            score=0.0,
            assertions=tuple(component.result for component in judged if component),
            error=errors[0],
        )
    components = [_component(item, asked) for item in case.assertions]
    total = _total(components)
    # A case that asks for nothing is passed in full.
    score = total.value if components else 1.0
    return Graded(
        state="passed" if _passes(components, score, threshold=case.threshold) else "failed",
        score=score,
        assertions=tuple(result for part in components for result in (part.result, *part.members)),
        named_scores={metric: mean.value for metric, mean in _named(components).items()},
    )


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
