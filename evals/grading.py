"""One answer -> its verdict: every assertion of a case is asked, then scores, weights and thresholds decide."""

from __future__ import annotations

import asyncio
import difflib
import math
from collections.abc import Iterator, Sequence
from typing import Literal, cast

from msgspec import Struct

from evals.assertions import ASSERTIONS, Answer, AssertionType, Deterministic, Judge, Judgement
from evals.assertions import Graded as GradedFunction
from evals.errors import CannotJudge, CapReached, InvalidAssertion
from evals.types import Assertion, AssertionResult, AssertionSet, Case, TrialError

NEGATION = "not-"
SET_TYPE = "assert-set"


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


async def grade(case: Case, answer: Answer, judge: Judge | None, *, allow_code: bool = False) -> Graded:
    """The verdict on one answer. `allow_code` lets assertions run the code that the suite brings.

    Deterministic assertions are asked first, in order; then the graded ones, all at once. One that cannot be asked
    makes the case an error, never a failure. Raises nothing but cancellation.
    """
    singles = tuple(_flatten(case))
    asked: dict[int, Judgement | TrialError] = {}
    graded: list[Assertion] = []
    for assertion in singles:
        if _is_graded(assertion):
            graded.append(assertion)
        else:
            asked[id(assertion)] = await _ask(assertion, answer, judge, allow_code=allow_code)
    opinions = await asyncio.gather(*(_ask(assertion, answer, judge, allow_code=allow_code) for assertion in graded))
    asked.update(zip(map(id, graded), opinions, strict=True))
    return _combine(case, asked)


def _flatten(case: Case) -> Iterator[Assertion]:
    for item in case.assertions:
        if isinstance(item, AssertionSet):
            yield from item.assertions
        else:
            yield item


def _is_graded(assertion: Assertion) -> bool:
    try:
        return find_assertion(assertion.type).type.graded
    except InvalidAssertion:
        return False


async def _ask(
    assertion: Assertion, answer: Answer, judge: Judge | None, *, allow_code: bool
) -> Judgement | TrialError:
    """The judgement on the answer, turned round for `not-`; or why there is none."""
    try:
        known = find_assertion(assertion.type)
        _require_allowed(known, assertion, allow_code=allow_code)
        return _turned(await _judgement(known.type, assertion, answer, judge), negated=known.negated)
    except CannotJudge as error:
        return TrialError(kind=error.kind, message=error.message)
    except CapReached as error:
        return TrialError(kind="cap", message=error.message)
    except InvalidAssertion as error:
        return TrialError(kind="assertion", message=error.message)
    except Exception as error:  # noqa: BLE001 - one plug-in's mistake must not end the whole run
        name = type(error).__name__
        return TrialError(kind="assertion", message=f"{assertion.type}: the assertion itself failed with {name}")


async def _judgement(type_: AssertionType, assertion: Assertion, answer: Answer, judge: Judge | None) -> Judgement:
    if not type_.graded:
        judgement = cast("Deterministic", type_.judge)(answer, assertion)
        return judgement if isinstance(judgement, Judgement) else await judgement
    if judge is None:
        raise CannotJudge(f"{assertion.type}: no model is there to judge; name one as the judge", kind="judge")
    return await cast("GradedFunction", type_.judge)(answer, assertion, judge)


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
            score=outcome.score,
            reason=outcome.reason,
            weight=assertion.weight,
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
