"""levenshtein, word-count, latency, cost, finish-reason, perplexity: what is counted or reported."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.types import Assertion, Completion


def judged(type_: str, text: str = "x", reported: dict[str, Any] | None = None, **fields: Any) -> Judgement:
    completion = None if reported is None else Completion(text=text, answered_by="m", **reported)
    return ASSERTIONS[type_].judge(Answer(text=text, completion=completion), Assertion(type=type_, **fields))


def edits(left: str, right: str) -> int:
    """The textbook table, to compare with."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def test_levenshtein__distance_is_the_textbooks() -> None:
    chooser = random.Random(7)  # noqa: S311 - texts to compare, no secrets
    for _ in range(300):
        left, right = ("".join(chooser.choices("abc", k=chooser.randrange(12))) for _ in range(2))
        distance = edits(left, right)

        assert judged("levenshtein", right, value=left, threshold=distance).passed
        assert not judged("levenshtein", right, value=left, threshold=distance - 0.5).passed


@pytest.mark.parametrize(
    ("text", "threshold", "passed"), [("", 1, False), ("", 2, True), ("😁", 0, False), ("😁", 1, True)]
)
def test_levenshtein__an_emoji_is_two_characters(text: str, threshold: int, passed: bool) -> None:
    assert judged("levenshtein", text, value="😀", threshold=threshold).passed is passed


def test_levenshtein__largest_texts_take_less_than_a_second() -> None:
    began = time.process_time()
    judgement = judged("levenshtein", "ab" * 50_000, value="ba" * 2_500, threshold=97_500)

    assert judgement.reason.startswith("the answer is 95000 edits away")
    assert time.process_time() - began < 1


@pytest.mark.parametrize("value", [5, None, ["a"], "a" * 5_001])
def test_levenshtein__unusable_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=r"^levenshtein: `value`"):
        judged("levenshtein", value=value)


@pytest.mark.parametrize(
    ("value", "text", "passed"),
    [
        (2, "a\ufeffb", True),
        (1, "a\u0085b", True),
        (1, "a\u001cb", True),
        (" 3 ", "one\ntwo\tthree", True),
        (2.5, "one two", False),
        ({"min": 2}, "one", False),
        ({"max": 2}, "", True),
        ({"min": 1, "max": 3}, "one two three", True),
    ],
)
def test_word_count__words_stand_between_javascripts_white_space(value: Any, text: str, passed: bool) -> None:
    assert judged("word-count", text, value=value).passed is passed


@pytest.mark.parametrize("value", ["three", [1], None, True, {}, {"min": 3, "max": 1}, {"least": 1}, {"min": "x"}])
def test_word_count__unusable_value_is_refused(value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=r"^word-count: "):
        judged("word-count", value=value)


def test_latency__at_most_the_threshold() -> None:
    assert judged("latency", reported={"duration_ms": 200}, threshold=200).passed
    assert not judged("latency", reported={"duration_ms": 201}, threshold=200).passed
    with pytest.raises(InvalidAssertion, match=r"^latency: `threshold` is missing$"):
        judged("latency", reported={"duration_ms": 200})
    with pytest.raises(CannotJudge, match=r"^latency: it is not known how long the answer took$"):
        judged("latency", threshold=200)


def test_cost__unknown_price_is_an_error_and_never_free() -> None:
    assert judged("cost", reported={"cost_usd": 0.01}, threshold=0.01).passed
    assert not judged("cost", reported={"cost_usd": 0.010001}, threshold=0.01).passed
    with pytest.raises(CannotJudge, match=r"^cost: the model's price is not known"):
        judged("cost", reported={}, threshold=1)


@pytest.mark.parametrize("type_", ["latency", "cost"])
def test_limits__a_limit_in_the_wrong_field_is_refused(type_: str) -> None:
    with pytest.raises(InvalidAssertion, match="takes no `value`; the limit belongs in `threshold`"):
        judged(type_, reported={"cost_usd": 1.0}, value=500, threshold=500)


@pytest.mark.parametrize(("given", "passed"), [("STOP", True), ("length", False), ("", False), (None, False)])
def test_finish_reason__upper_and_lower_case_are_alike(given: str | None, passed: bool) -> None:
    assert judged("finish-reason", reported={"finish_reason": given}, value="stop").passed is passed


def test_perplexity__from_the_mean_log_probability() -> None:
    assert judged("perplexity", reported={"logprobs": (-1.0, -1.0)}, threshold=2.72).passed
    assert not judged("perplexity", reported={"logprobs": (-1.0, -1.0)}, threshold=2.71).passed
    assert judged("perplexity-score", reported={"logprobs": (0.0, 0.0)}).score == 0.5
    with pytest.raises(CannotJudge, match="gave no log probabilities"):
        judged("perplexity", reported={"logprobs": ()}, threshold=2)
