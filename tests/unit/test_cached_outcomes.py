"""An outcome as an identical job shows it, and what a kept answer means for assertions."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from evals.assertions import ASSERTIONS, Answer
from evals.errors import CannotJudge, InvalidSuite
from evals.outcome import build_outcome, outcome_as_cached
from evals.runner import why_fresh
from evals.suites import parse_suite, suite_digest
from evals.types import Assertion, CacheUse, Case, Completion, Message, Suite, Trial

HIT = CacheUse(state="hit", reason="answered before", saved_usd=0.02)
ASK = (Message("user", "?"),)


def a_completion(cost_usd: float | None, *, cache: CacheUse | None = None) -> Completion:
    return Completion(
        text="yes", answered_by="m-1", input_tokens=3, output_tokens=1, cost_usd=cost_usd, duration_ms=9, cache=cache
    )


def a_trial(case_index: int, repeat_index: int, completion: Completion) -> Trial:
    return Trial(
        case_index=case_index, model="m", repeat_index=repeat_index, state="passed", score=1.0, completion=completion
    )


def test_outcome_as_cached__marks_every_row_and_trial_and_costs_nothing() -> None:
    suite = Suite(cases=(Case(title="once", messages=ASK), Case(title="twice", messages=ASK, repeat=2)))
    trials = [
        a_trial(0, 0, a_completion(0.5)),
        a_trial(1, 0, a_completion(0.25)),
        a_trial(1, 1, a_completion(0.0, cache=HIT)),
    ]
    ran = build_outcome(suite, ["m"], trials, total_duration_ms=7, engine_version="1")
    assert (ran.summary.total_cost_usd, ran.summary.trials_cached) == (0.75, 1)

    cached = outcome_as_cached(ran, ended_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC))

    once, twice = cached.test_cases
    at = "2026-01-02T03:04:05.678Z"
    assert once.cache == CacheUse(state="hit", reason=f"an identical job ended at {at}", saved_usd=0.5)
    assert [trial.cache.state for trial in twice.trials] == ["hit", "hit"]
    assert [row.cost_usd for row in (once, twice, *twice.trials)] == [0.0] * 4
    assert (once.input_tokens, twice.output_tokens) == (3, 2)
    summary = cached.summary
    assert (summary.cached, summary.cached_at, summary.trials_cached) == (True, at, 3)
    assert (summary.total_cost_usd, summary.total_tokens, summary.total_duration_ms) == (0.0, 12, 7)
    assert (summary.conclusion, summary.overall_score) == ("passed", 1.0)


def test_latency__of_a_cached_answer_is_an_error() -> None:
    spec = Assertion(type="latency", threshold=1000)
    answer = Answer(text="yes", completion=a_completion(0.0, cache=HIT))

    with pytest.raises(CannotJudge, match=r"^latency: the answer comes from the cache, so it took no time"):
        ASSERTIONS["latency"].judge(answer, spec)


@pytest.mark.parametrize(("threshold", "passed"), [(0.02, True), (0.019, False)])
def test_cost__of_a_cached_answer_is_what_it_once_cost(threshold: float, passed: bool) -> None:
    spec = Assertion(type="cost", threshold=threshold)
    answer = Answer(text="yes", completion=a_completion(0.0, cache=HIT))

    assert ASSERTIONS["cost"].judge(answer, spec).passed is passed


def test_cost__of_a_cached_answer_whose_price_was_unknown_is_an_error() -> None:
    unknown = CacheUse(state="hit", reason="answered before")
    answer = Answer(text="yes", completion=a_completion(0.0, cache=unknown))

    with pytest.raises(CannotJudge, match=r"^cost: the model's price is not known"):
        ASSERTIONS["cost"].judge(answer, Assertion(type="cost", threshold=1.0))


@pytest.mark.parametrize(
    ("suite", "reason"),
    [
        (Suite(cases=()), ""),
        (Suite(cases=(), temperature=0.0), ""),
        (Suite(cases=(), temperature=0.2), "temperature 0.2 asks for a new answer each time"),
        (Suite(cases=(), temperature=0.2, cache=True), ""),
        (Suite(cases=(), cache=False), "the suite says `cache: false`"),
    ],
)
def test_why_fresh__by_the_suite(suite: Suite, reason: str) -> None:
    assert why_fresh(suite, Case(title="t", messages=ASK)) == reason


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("latency", "latency needs an answer of its own"),
        ("not-latency", "not-latency needs an answer of its own"),
        ("cost", ""),
    ],
)
def test_why_fresh__by_an_assertion_on_the_call_itself(type_: str, reason: str) -> None:
    case = Case(title="t", messages=ASK, assertions=(Assertion(type=type_, threshold=1.0),))

    assert why_fresh(Suite(cases=(case,), cache=True), case) == reason


def test_suite__cache_is_true_or_false_or_left_out() -> None:
    tests = "tests: [{input: hello}]\n"

    assert parse_suite(tests, path="a.yaml").cache is None
    assert parse_suite(f"cache: false\n{tests}", path="a.yaml").cache is False
    assert parse_suite(f"cache: true\n{tests}", path="a.yaml").cache is True
    digests = {suite_digest(parse_suite(f"{key}{tests}", path="a.yaml")) for key in ("", "cache: false\n")}
    assert len(digests) == 2
    with pytest.raises(InvalidSuite, match=r"^a.yaml, line 1: cache: must be true or false"):
        parse_suite(f"cache: 14\n{tests}", path="a.yaml")
