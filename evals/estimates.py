"""What a run may take before it is made: calls, tokens and money, from little to most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from evals.agreement import repeats_itself, sample_size
from evals.catalogue import EMBEDDER
from evals.grading import find_assertion, is_graded, parts_of
from evals.judging import ASKS, JUDGE_MAX_TOKENS, Patience
from evals.packages import conversation
from evals.panels import votes_of
from evals.pricing import least_input_tokens, most_input_tokens
from evals.types import Assertion, Case, Instructions, Message, Price, Suite

# A short answer, for the least that a run takes.
SHORT_ANSWER_TOKENS = 50
# What a judge is told around the rubric, the question and the answer (evals/assertions/_opinions.py); the longest.
_JUDGES_INSTRUCTIONS = Message("system", "x" * 1_400)
_NOTHING = (Message("assistant", ""),)


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

    def times(self, factor: float) -> _Calls:
        return _Calls(self.count.times(factor), self.input, self.output)


def estimate_run(
    instructions: Instructions,
    suite: Suite,
    models: Sequence[str],
    *,
    prices: Mapping[str, Price],
    default_judge: str,
    answer_tokens: int,
    embedder: str | None = EMBEDDER,
) -> RunEstimate:
    """What running the suite once on each model takes. `prices` by model name; `answer_tokens` caps each answer.

    `embedder` compares texts where an assertion names no embedding model; None leaves it out.
    """
    longest = min(suite.max_tokens, answer_tokens)
    answers = [calls for case in suite.cases for calls in _answers(instructions, case, longest)]
    judged: dict[str, list[_Calls]] = {}
    repeated: dict[str, list[_Calls]] = {}  # what one verdict takes that may be asked for again
    asked: set[str] = set()
    verdicts = 0
    for case in suite.cases:
        for assertion in _graded(case):
            type_ = find_assertion(assertion.type).type
            # Answers that are compared are judged once for all models.
            times = case.repeat * (1 if type_.compares else len(models))
            one = _judgement(case, assertion, longest, min(JUDGE_MAX_TOKENS, answer_tokens), models=len(models))
            votes = Counter(_votes(assertion, default=suite.judge or default_judge) if type_.asks else ())
            asked.update(votes)
            for name, number in votes.items():
                judged.setdefault(name, []).append(one.times(times * number))
                if repeats_itself(assertion):
                    repeated.setdefault(name, []).append(one.times(number))
            verdicts += times if repeats_itself(assertion) else 0
            if type_.embeds and embedder is not None:
                name = embedder if type_.asks else assertion.model or embedder
                judged.setdefault(name, []).append(_embeddings(case, assertion, longest).times(times))
    for name in asked:
        judged[name].append(_patience(judged[name]))
    for name, calls in repeated.items():
        judged[name].append(_again(calls, times=sample_size(verdicts)))
    return RunEstimate(
        tested=tuple(_model(name, answers, prices.get(name)) for name in models),
        judges=tuple(_model(name, calls, prices.get(name)) for name, calls in judged.items()),
    )


def _answers(instructions: Instructions, case: Case, longest: int) -> Iterator[_Calls]:
    """A call for each turn; each reads what was said and answered before."""
    messages = conversation(instructions, case)
    short = min(SHORT_ANSWER_TOKENS, longest)
    for number in range(max(1, len(case.turns))):
        if number:
            messages = (*messages, Message("user", case.turns[number].content))
        yield _Calls(
            count=Range(case.repeat, case.repeat),
            input=Range(
                least_input_tokens(messages) + number * short,
                # An answer stands as a message of its own in what is read next.
                most_input_tokens(messages) + number * (longest + most_input_tokens(_NOTHING)),
            ),
            output=Range(short, longest),
        )


def _votes(assertion: Assertion, *, default: str) -> list[str]:
    """Who is asked for a judgement, a name for each call."""
    if assertion.panel is None:
        return [assertion.model or default]
    return [vote.model or default for vote in votes_of(assertion.panel, model=assertion.model)]


def _judgement(case: Case, assertion: Assertion, longest: int, longest_opinion: int, *, models: int) -> _Calls:
    """One verdict. A judge is asked once, or twice when its first opinion cannot be read; that one is then quoted."""
    compares = find_assertion(assertion.type).type.compares
    criteria = len(assertion.value) if isinstance(assertion.value, list | tuple) and not compares else 1
    told = (
        _JUDGES_INSTRUCTIONS,
        Message("user", f"{assertion.value}{assertion.rubric_prompt or ''}{case.vars.get('context', '')}"),
        Message("user", "\n".join((case.messages[-1].content, *(turn.content for turn in case.turns)))),
    )
    short = min(SHORT_ANSWER_TOKENS, longest)
    return _Calls(
        count=Range(criteria, ASKS * criteria),
        input=Range(
            least_input_tokens(told) + short,
            most_input_tokens(told) + (models if compares else 1) * longest + longest_opinion,
        ),
        output=Range(min(SHORT_ANSWER_TOKENS, longest_opinion), longest_opinion),
    )


def _patience(calls: Sequence[_Calls]) -> _Calls:
    """What asking one judge a third time or more takes at most in the run."""
    opinions = sum(call.count.high for call in calls) / ASKS
    return _Calls(
        count=Range(0, Patience.most(int(opinions))),
        input=Range(0, max(call.input.high for call in calls)),
        output=Range(0, max(call.output.high for call in calls)),
    )


def _again(calls: Sequence[_Calls], *, times: int) -> _Calls:
    """What asking for some verdicts again takes at most: nobody knows beforehand which ones."""
    return _Calls(
        count=Range(0, times * max(call.count.high for call in calls)),
        input=Range(0, max(call.input.high for call in calls)),
        output=Range(0, max(call.output.high for call in calls)),
    )


def _embeddings(case: Case, assertion: Assertion, longest: int) -> _Calls:
    """One call for the texts of an assertion; questions that a judge makes are short."""
    texts = (Message("user", str(assertion.value)), Message("user", case.messages[-1].content))
    return _Calls(
        count=Range(1, 1),
        input=Range(least_input_tokens(texts), most_input_tokens(texts) + longest + JUDGE_MAX_TOKENS),
        output=Range(),
    )


def _graded(case: Case) -> Iterator[Assertion]:
    for part in parts_of(case):
        for assertion in part.singles:
            if is_graded(assertion):
                yield assertion


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
