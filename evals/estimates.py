"""What a run may take before it is made: calls, tokens and money, from little to most."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from evals.errors import InvalidAssertion
from evals.grading import find_assertion
from evals.judging import JUDGE_MAX_TOKENS
from evals.packages import conversation
from evals.pricing import least_input_tokens, most_input_tokens
from evals.types import Assertion, AssertionSet, Case, Instructions, Message, Price, Suite

# A short answer, for the least that a run takes.
SHORT_ANSWER_TOKENS = 50
# What a judge is told around the rubric, the question and the answer (evals/assertions/llm_rubric.py).
_JUDGES_INSTRUCTIONS = Message("system", "x" * 800)


class Range(Struct, frozen=True):
    """From the least that is likely to the most that is reserved."""

    low: float = 0
    high: float = 0

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)


class ModelEstimate(Struct, frozen=True, kw_only=True):
    """One model's share. `calls` as answers or as judgements; `cost_usd` is None while its price is unknown."""

    model: str
    calls: Range
    tokens: Range
    cost_usd: Range | None


class RunEstimate(Struct, frozen=True, kw_only=True):
    """Per model that is tested, and per model that judges."""

    tested: tuple[ModelEstimate, ...]
    judges: tuple[ModelEstimate, ...]

    @property
    def tokens(self) -> Range:
        return sum((part.tokens for part in (*self.tested, *self.judges)), Range())

    @property
    def cost_usd(self) -> Range | None:
        """None as soon as one price is unknown."""
        costs = [part.cost_usd for part in (*self.tested, *self.judges)]
        return None if None in costs else sum((cost for cost in costs if cost), Range())


class _Calls(Struct, frozen=True):
    """Calls of one kind, all alike. Tokens are of one of them."""

    count: Range
    input: Range
    output: Range


def estimate_run(
    instructions: Instructions,
    suite: Suite,
    models: Sequence[str],
    *,
    prices: Mapping[str, Price],
    default_judge: str,
    answer_tokens: int,
) -> RunEstimate:
    """What running the suite once on each model takes. `prices` by model name; `answer_tokens` caps each answer."""
    longest = min(suite.max_tokens, answer_tokens)
    answers = [_answers(instructions, case, longest) for case in suite.cases]
    judged: dict[str, list[_Calls]] = {}
    for case in suite.cases:
        for assertion in _graded(case):
            name = assertion.model or suite.judge or default_judge
            calls = _judgements(case, assertion, longest, min(JUDGE_MAX_TOKENS, answer_tokens))
            judged.setdefault(name, []).append(
                _Calls(calls.count.times(len(models)), calls.input, calls.output),
            )
    return RunEstimate(
        tested=tuple(_model(name, answers, prices.get(name)) for name in models),
        judges=tuple(_model(name, calls, prices.get(name)) for name, calls in judged.items()),
    )


def _answers(instructions: Instructions, case: Case, longest: int) -> _Calls:
    messages = conversation(instructions, case)
    return _Calls(
        count=Range(case.repeat, case.repeat),
        input=Range(least_input_tokens(messages), most_input_tokens(messages)),
        output=Range(min(SHORT_ANSWER_TOKENS, longest), longest),
    )


def _judgements(case: Case, assertion: Assertion, longest: int, longest_opinion: int) -> _Calls:
    """A judge is asked once, or twice when its first opinion cannot be read; the second time that one is quoted."""
    told = (_JUDGES_INSTRUCTIONS, Message("user", str(assertion.value)), Message("user", case.messages[-1].content))
    short = min(SHORT_ANSWER_TOKENS, longest)
    return _Calls(
        count=Range(case.repeat, 2 * case.repeat),
        input=Range(least_input_tokens(told) + short, most_input_tokens(told) + longest + longest_opinion),
        output=Range(min(SHORT_ANSWER_TOKENS, longest_opinion), longest_opinion),
    )


def _graded(case: Case) -> Iterator[Assertion]:
    for item in case.assertions:
        for assertion in item.assertions if isinstance(item, AssertionSet) else (item,):
            try:
                if find_assertion(assertion.type).type.graded:
                    yield assertion
            except InvalidAssertion:
                continue


def _model(name: str, calls: Sequence[_Calls], price: Price | None) -> ModelEstimate:
    return ModelEstimate(
        model=name,
        calls=sum((call.count for call in calls), Range()),
        tokens=sum((_product(call.count, call.input + call.output) for call in calls), Range()),
        cost_usd=None if price is None else sum((_cost(call, price) for call in calls), Range()),
    )


def _cost(calls: _Calls, price: Price) -> Range:
    one = calls.input.times(price.input / 1e6) + calls.output.times(price.output / 1e6)
    return _product(calls.count, one)


def _product(one: Range, other: Range) -> Range:
    return Range(one.low * other.low, one.high * other.high)
