"""rouge-n, bleu, gleu, meteor: what recorded verdicts leave open."""

from __future__ import annotations

import math
from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import CannotJudge, InvalidAssertion
from evals.types import Assertion

SCORES = ["rouge-n", "bleu", "gleu", "meteor"]


def judged(type_: str, text: str, value: Any, **fields: Any) -> Judgement:
    return ASSERTIONS[type_].judge(Answer(text=text), Assertion(type=type_, value=value, **fields))


@pytest.mark.parametrize(
    ("type_", "text", "value", "score"),
    [
        ("rouge-n", "a\nb\tc", "a b c", 1.0),
        ("rouge-n", "", "", 0.0),
        ("rouge-n", "I cannot go.", "i can not go .", 1.0),
        ("rouge-n", 'He said "yes" (twice)', "he said `` yes '' ( twice )", 1.0),
        ("rouge-n", "They'll say it isn't", "they 'll say it is n't", 1.0),
        ("rouge-n", "wait... what--no", "wait ... what -- no", 1.0),
        ("rouge-n", "v1.2 costs $5, e.g. today.", "v1.2 costs $ 5 , e.g. today .", 1.0),
        ("rouge-n", "At 10:30, 1,000 U.S. tons", "at 10:30 , 1,000 u.s. tons", 1.0),
        ("rouge-n", "They wanna go; we cannot. ", "they wan na go ; we can not .", 1.0),
        ("rouge-n", "foo/bar a;b 'tis", "foo/bar a ; b 't is", 1.0),
        ("rouge-n", "the U.S.", "the u.s.", 1.0),
        ("rouge-n", "no.... oh", "no ... . oh", 1.0),
        ("rouge-n", '("a") "b c" d', "( `` a '' ) `` b c '' d", 1.0),
        ("bleu", "a b", ["a c", "d b"], math.sqrt(1 / 2 * 1e-7)),
        ("bleu", "x y", ["", "x y z"], 1.0),
        ("gleu", "a ... b", "a b", 2 / 6),
        ("bleu", "a b c d", "a b c d e", math.exp(1 - 5 / 4)),
        ("bleu", "A B\u00a0C\ufeffD", "a b c d", 1.0),
        ("bleu", "a a a a", "a a", (2 / 4 * 1 / 3 * 1e-7 * 1e-7) ** 0.25),
        ("bleu", "x y", ["x", "x y z"], math.sqrt(1 / 1 * 1 / 1)),
        ("gleu", "a b...", "a b", 1.0),
        ("gleu", "", "", 0.0),
        ("gleu", "...", "...", 0.0),
        ("gleu", "a b", ["x", "a b c"], 3 / 6),
        ("meteor", "runs Running RUN", "run run run", 1 - 0.5 / 27),
        ("meteor", "b a", "a b", 0.5),
        ("meteor", "...", "a", 0.0),
    ],
)
def test_scores__are_the_papers(type_: str, text: str, value: Any, score: float) -> None:
    assert judged(type_, text, value).score == pytest.approx(score, abs=1e-12)


@pytest.mark.parametrize(
    ("type_", "text", "value", "threshold"),
    [("rouge-n", "The weather is nice today", "The weather is beautiful today", 0.8), ("gleu", "a b", "a c", 1 / 3)],
)
def test_scores__a_score_reaches_the_threshold_that_it_equals(
    type_: str, text: str, value: str, threshold: float
) -> None:
    assert judged(type_, text, value, threshold=threshold).passed


@pytest.mark.parametrize("type_", SCORES)
@pytest.mark.parametrize("value", [5, None, True, {"a": 1}, [1], ["a", None], "x" * 50_001, ["x" * 30_000] * 2])
def test_scores__unusable_value_is_refused(type_: str, value: Any) -> None:
    with pytest.raises(InvalidAssertion, match=rf"^{type_}: "):
        judged(type_, "x", value)


@pytest.mark.parametrize("type_", ["bleu", "gleu", "meteor"])
def test_scores__empty_list_is_refused(type_: str) -> None:
    with pytest.raises(InvalidAssertion, match="the list in `value` is empty"):
        judged(type_, "x", [])


@pytest.mark.parametrize("type_", SCORES)
def test_scores__answer_that_is_too_long_is_an_error(type_: str) -> None:
    with pytest.raises(CannotJudge, match="more than 50,000 characters"):
        judged(type_, "x" * 50_001, "x")


@pytest.mark.parametrize(("text", "value"), [("", "a"), ("a", ""), ("a", ["b", ""])])
def test_meteor__nothing_to_compare_is_an_error(text: str, value: Any) -> None:
    with pytest.raises(CannotJudge, match="nothing to compare"):
        judged("meteor", text, value)
