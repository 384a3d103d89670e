"""What a call may cost beforehand: never less than what it costs, and not many times more."""

from __future__ import annotations

import msgspec
import pytest

from evals.catalogue import EMBEDDER, FREE, Model
from evals.estimates import Range, estimate_run
from evals.models import CompletionRequest, Deployment
from evals.pricing import least_input_tokens, most_input_tokens, most_usd
from evals.types import Assertion, AssertionSet, Case, Instructions, Message, Panel, Price, Suite, Turn

# Texts with their counts by o200k_base and the older cl100k_base, as tiktoken 0.14 gives them.
COUNTED = [
    ("The quick brown fox jumps over the lazy dog. " * 20, 201, 201),
    ("def add(a: int, b: int) -> int:\n    return a + b\n" * 20, 380, 380),
    ('{"id": 12345, "ok": true, "items": [1, 2, 3]}\n' * 20, 480, 480),
    ("Съешь же ещё этих мягких французских булок. " * 20, 261, 581),
    ("敏捷的棕色狐狸跳过了懒狗。" * 20, 280, 500),
    ("🙂🚀" * 20, 60, 100),
]


def deployment(name: str, price: Price | None) -> Deployment:
    return Deployment(id=name, backend="echo", model=name, price=price)


def a_request(text: str = "hello", *, max_tokens: int = 100) -> CompletionRequest:
    return CompletionRequest(messages=(Message("user", text),), max_tokens=max_tokens)


@pytest.mark.parametrize(
    ("text", "fewest", "most"), COUNTED, ids=["prose", "code", "json", "cyrillic", "chinese", "emoji"]
)
def test_tokens__are_foreseen_from_little_to_most(text: str, fewest: int, most: int) -> None:
    messages = (Message("user", text),)

    assert least_input_tokens(messages) <= fewest
    assert most <= most_input_tokens(messages) <= 3 * most + 24


def test_most_usd__is_that_of_the_dearest_deployment() -> None:
    cheap, dear = Price(input=1, output=2), Price(input=1, output=30)
    model = Model(name="m", deployments=(deployment("a", cheap), deployment("b", dear), deployment("c", FREE)))

    tokens = most_input_tokens(a_request().messages)
    assert most_usd(model, a_request()) == pytest.approx((tokens + 100 * 30) / 1e6)


def test_most_usd__an_unknown_price_is_never_free() -> None:
    model = Model(name="m", deployments=(deployment("a", FREE), deployment("b", None)))

    assert most_usd(model, a_request()) is None
    assert most_usd(Model(name="m", deployments=(deployment("a", FREE),)), a_request()) == 0


def test_most_usd__halves_of_surrogate_pairs_are_counted_too() -> None:
    model = Model(name="m", deployments=(deployment("a", Price(input=1, output=1)),))

    assert most_usd(model, a_request("\ud800" * 100)) == pytest.approx((300 + 24 + 100) / 1e6)


RUBRIC = Assertion(type="llm-rubric", value="is kind")
INSTRUCTIONS = Instructions(name="p", version="1", format="claude", subtype="rule", system="Be kind. " * 100)


def an_estimate(*cases: Case, **changes: object):
    usual = {"prices": {"a": Price(input=1, output=10), "b": FREE}, "default_judge": "b", "answer_tokens": 4096}
    return estimate_run(INSTRUCTIONS, Suite(cases=cases), ["a", "b"], **(usual | changes))


def a_case(*assertions: Assertion | AssertionSet, repeat: int = 1) -> Case:
    return Case(title="t", messages=(Message("user", "Hello"),), assertions=assertions, repeat=repeat)


def test_estimate__counts_cases_models_and_repeats() -> None:
    told = an_estimate(a_case(repeat=3), a_case())

    assert [(part.model, part.calls) for part in told.tested] == [("a", Range(4, 4)), ("b", Range(4, 4))]
    assert told.judges == ()
    assert told.tested[1].cost_usd == Range(0, 0)
    assert told.cost_usd == told.tested[0].cost_usd
    assert told.cost_usd.high == pytest.approx(4 * ((900 / 2 + 5 / 2 + 2 * 8 + 16) + 1024 * 10) / 1e6, rel=0.001)
    assert told.cost_usd.low == pytest.approx(4 * ((905 / 4.5) + 50 * 10) / 1e6, rel=0.01)


def test_estimate__answers_are_no_longer_than_the_cap() -> None:
    (part, _) = an_estimate(a_case(), answer_tokens=10).tested

    assert part.tokens.high - part.tokens.low < 900 / 2
    assert part.cost_usd is not None
    assert part.cost_usd.low >= 10 * 10 / 1e6


def test_estimate__judges_are_asked_for_each_model_and_repeat_also_in_sets() -> None:
    own = Assertion(type="not-llm-rubric", value="is rude", model="a")
    told = an_estimate(a_case(RUBRIC, AssertionSet(assertions=(own,)), Assertion(type="contains", value="x"), repeat=2))

    # Of the eight verdicts one is asked for again, at the end; nobody knows beforehand of whom.
    assert {part.model: part.calls for part in told.judges} == {"b": Range(4, 15), "a": Range(4, 15)}
    assert told.cost_usd is not None
    assert told.tested[0].cost_usd is not None
    assert told.cost_usd.high > told.tested[0].cost_usd.high


def test_estimate__one_unknown_price_makes_the_sum_unknown() -> None:
    told = an_estimate(a_case(RUBRIC), default_judge="nobody")

    assert told.judges[0].cost_usd is None
    assert told.cost_usd is None


def test_estimate__each_vote_of_a_panel_is_a_call() -> None:
    panel = Panel(models=("a", "c"), votes=3)
    told = an_estimate(a_case(msgspec.structs.replace(RUBRIC, panel=panel)))

    # Two models are tested: "a" has two votes on each of their answers, "c" has one; one verdict is asked for again.
    assert {part.model: part.calls for part in told.judges} == {"a": Range(4, 17), "c": Range(2, 11)}


def test_estimate__answers_that_are_compared_are_judged_once_for_all_models() -> None:
    told = an_estimate(a_case(Assertion(type="select-best", value="the shorter one")))

    assert [(part.model, part.calls) for part in told.judges] == [("b", Range(1, 5))]


def test_estimate__embeddings_are_a_call_and_cost_what_is_read() -> None:
    prices = {"a": FREE, "b": FREE, EMBEDDER: Price(input=0.02, output=0.0)}
    told = an_estimate(a_case(Assertion(type="similar", value="x" * 1_000)), prices=prices)

    assert [(part.model, part.calls) for part in told.judges] == [(EMBEDDER, Range(2, 2))]
    assert told.cost_usd is not None
    assert 0 < told.cost_usd.low < told.cost_usd.high < 0.001


def test_estimate__a_conversation_takes_a_call_a_turn_and_reads_what_was_said_before() -> None:
    turns = tuple(Turn(content="Hello") for _ in range(3))
    one = an_estimate(a_case()).tested[0]
    three = an_estimate(msgspec.structs.replace(a_case(), turns=turns)).tested[0]

    assert three.calls == Range(3, 3)
    assert three.tokens.low > 3 * one.tokens.low
    assert three.tokens.high > 3 * one.tokens.high + (1 + 2) * 1024
