"""contains, icontains, their -any and -all forms, and starts-with."""

from __future__ import annotations

from typing import Any

import pytest

from evals.assertions import ASSERTIONS, Answer, Judgement
from evals.errors import InvalidAssertion
from evals.types import Assertion


def judged(type_: str, value: Any, text: str) -> Judgement:
    return ASSERTIONS[type_].judge(Answer(text=text), Assertion(type=type_, value=value))


@pytest.mark.parametrize(
    ("value", "text", "passed"),
    [
        ("Paris", "It is Paris.", True),
        ("paris", "It is Paris.", False),
        (3.0, "3 apples", True),
        (0, "10", True),
        (1e21, "about 1e+21", True),
        ("é", "e\u0301", False),  # no Unicode normalisation
    ],
)
def test_contains__value_is_or_is_not_in_the_answer(value: Any, text: str, passed: bool) -> None:
    judgement = judged("contains", value, text)

    assert judgement.passed is passed
    assert judgement.score == float(passed)


@pytest.mark.parametrize("value", ["", None, True, [], ["a"], {"a": 1}])
@pytest.mark.parametrize("type_", ["contains", "icontains"])
def test_contains__value_that_is_no_text_or_number_is_refused(type_: str, value: Any) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        judged(type_, value, "a")

    assert str(caught.value) == f"{type_}: `value` must be a text that is not empty, or a number"


@pytest.mark.parametrize(
    ("value", "text", "passed"),
    [("PARIS", "paris", True), ("straße", "STRASSE", False), ("ΟΔΟΣ", "ΟΔΟΣ.", True), ("ΟΔΟΣ", "ΟΔΟΣΑ", False)],
)
def test_icontains__both_sides_are_lower_cased_as_javascript_does(value: str, text: str, passed: bool) -> None:
    assert judged("icontains", value, text).passed is passed


@pytest.mark.parametrize(
    ("value", "fields"),
    [
        ("alpha, beta", ["alpha", "beta"]),
        (" alpha ,, beta ,", ["alpha", "beta"]),
        ('"1,000", in stock', ["1,000", "in stock"]),
        ('"say ""hi""",x', ['say "hi"', "x"]),
        (r'"a\"b","c\\d","e\nf"', ['a"b', "c\\d", r"e\nf"]),
        ('a ""b"" c', ['a ""b"" c']),
        ("\ufeffalpha\u00a0,beta", ["alpha", "beta"]),
        ("alpha\nbeta", ["alpha\nbeta"]),
        (["a", 1.0, True, None], ["a", "1", "true", "null"]),
    ],
)
def test_contains_all__value_is_split_into_fields(value: Any, fields: list[str]) -> None:
    """Each field is needed, and nothing but the fields is."""
    complete = judged("contains-all", value, " | ".join(fields))
    without_last = judged("contains-all", value, " | ".join(fields[:-1]))

    assert complete.passed
    assert not without_last.passed
    assert without_last.reason == f"the answer does not contain {fields[-1]!r}"


@pytest.mark.parametrize(("value", "any_", "all_"), [([], False, True), (",", False, True), ([""], True, True)])
def test_contains_any_and_all__nothing_to_look_for(value: Any, any_: bool, all_: bool) -> None:
    assert judged("contains-any", value, "text").passed is any_
    assert judged("contains-all", value, "text").passed is all_


@pytest.mark.parametrize("type_", ["contains-any", "contains-all", "icontains-any", "icontains-all"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "`value` must be a list of texts, or one text with commas between them"),
        (5, "`value` must be a list of texts, or one text with commas between them"),
        ({"a": 1}, "`value` must be a list of texts, or one text with commas between them"),
        ('"open', 'a double quote in `value` is not closed; write it twice ("") to mean itself'),
        ('"a"b', "a comma is missing after a quoted field of `value`"),
    ],
)
def test_contains_any_and_all__unusable_value_is_refused(type_: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        judged(type_, value, "a")

    assert str(caught.value) == f"{type_}: {message}"


def test_icontains_any__one_of_the_texts_in_another_case_is_enough() -> None:
    assert judged("icontains-any", ["x", "ALPHA"], "an alpha").passed
    assert not judged("contains-any", ["x", "ALPHA"], "an alpha").passed


def test_contains_all__reason_lists_five_missing_texts_and_counts_the_rest() -> None:
    judgement = judged("contains-all", list("abcdefg"), "")

    assert judgement.reason == "the answer does not contain 'a', 'b', 'c', 'd', 'e' and 2 more"


def test_starts_with__white_space_counts_and_only_text_is_taken() -> None:
    assert judged("starts-with", "Yes", "Yes, it is").passed
    assert not judged("starts-with", "Yes", " Yes").passed
    with pytest.raises(InvalidAssertion, match=r"^starts-with: `value` must be a text that is not empty$"):
        judged("starts-with", 1, "1 apple")


def test_regex__reason_shows_the_pattern_as_it_was_written() -> None:
    judgement = judged("regex", r"^\d+\.$", "none")

    assert judgement.reason == r"the answer does not match the pattern '^\d+\.$'"
