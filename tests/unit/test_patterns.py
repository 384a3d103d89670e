"""JavaScript's patterns on re2."""

from __future__ import annotations

import time

import pytest

from evals.errors import CannotJudge, InvalidAssertion
from evals.patterns import InvalidPattern, compile_pattern, is_pattern


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (r"\d", "\u0661", False),
        (r"\w", "é", False),
        (r"^\s+$", "\ufeff\u00a0\u2029", True),
        (r"\s", "\u0085", False),
        (r"\S", "\u0085", True),
        (r"\bcat\b", "écaté", True),
        (r"a$", "a\n", False),
        (r"^b", "a\nb", False),
        (r"a.b", "a\nb", False),
        (r"a.b", "a\u2028b", False),
        (r"a.b", "a\u0085b", True),
        (r"^.$", "😀", False),
        (r"^..$", "😀", True),
        (r"^[^a]{2}$", "😀", True),
        (r"[😀]", "😁", True),  # two units in the class, and the first is shared
        (r"^😀+$", "😀😀", False),  # the plus repeats the second unit
        (r"\uD83D", "😀", True),
        (r"[\uD800-\uDBFF][\uDC00-\uDFFF]", "😀", True),
        (r"[\u0000-\uFFFF]", "😀", True),
        (r"\u00e9\x41\cJ\0\t", "éA\n\0\t", True),
        (r"\u{41}", "u" * 41, True),
        (r"\u41", "u41", True),
        (r"\101\8\18", "A8\x018", True),
        (r"\c", r"\c", True),
        (r"[\c_]", "\x1f", True),
        (r"[\b]", "\b", True),
        (r"\h\-\/\Z", "h-/Z", True),
        (r"a{,3}", "a{,3}", True),
        (r"x{2", "x{2", True),
        (r"a]}", "a]}", True),
        (r"[]", "a", False),
        (r"[^]", "\n", True),
        (r"[[:alpha:]]", "a]", True),
        (r"[\d-x]", "-", True),
        (r"[a-]", "-", True),
        (r"\p{L}", "a", False),
        (r"\k<n>", "k<n>", True),
        (r"(?<year>\d{4})-(?:0[1-9])", "2024-05", True),
        (r"a{2,3}?b", "aab", True),
        (r"", "", True),
        (r"$^", "", True),
        (r"/hello/i", "Hello", False),
        ("\ud83d", "😀", True),
        ("\U0010d83d", "😀", False),  # a private character of its own is not the half of a pair
    ],
)
def test_pattern__without_flags(source: str, text: str, found: bool) -> None:
    assert compile_pattern(source).search(text) is found


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (r"^.$", "😀", True),
        (r"[😀]", "😁", False),
        (r"\u{1F600}", "😀", True),
        (r"\ud83d\ude00", "😀", True),
        (r"\uD83D", "😀", False),
        (r"^\p{L}+$", "äz", True),
        (r"\P{L}", "äz", False),
        (r"^[\p{Lu}\d]+$", "Ä1", True),
        (r"[^\p{L}]", "ä", False),
        (r"\p{Script=Greek}", "α", True),
        (r"[\-\]]", "-", True),
    ],
)
def test_pattern__by_code_points(source: str, text: str, found: bool) -> None:
    assert compile_pattern(source, unicode=True).search(text) is found


@pytest.mark.parametrize(
    "source",
    [
        "(",
        ")",
        "[",
        "*a",
        "a**",
        "a{2}{3}",
        "{1}",
        "a{2,1}",
        "[z-a]",
        "\\",
        "(?i)a",
        "(?i:a)",
        "(?P<n>a)",
        "(?<n>a)\\k<m>",
        "(?<n>a)(?<n>b)",
        "(?<1>a)",
        "^*",
        "\\b+",
        "(?<=a)*",
        "(?",
    ],
)
def test_pattern__what_javascript_refuses(source: str) -> None:
    with pytest.raises(InvalidPattern):
        compile_pattern(source)
    assert not is_pattern(source, unicode=False)


@pytest.mark.parametrize(
    "source", ["]", "{", "a{,3}", r"\-", r"\q", r"\01", r"\2", r"\u{110000}", r"[\d-x]", r"(?=a)*", r"\c1"]
)
def test_pattern__what_javascript_refuses_by_code_points_only(source: str) -> None:
    assert not is_pattern(source, unicode=True)
    assert is_pattern(source, unicode=False)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("(?=a)b", "look-ahead (?=...)"),
        ("a(?!b)", "look-ahead (?!...)"),
        ("(?<=a)b", "look-behind (?<=...)"),
        ("(?<!a)b", "look-behind (?<!...)"),
        (r"(a)\1", r"back-reference \1"),
        (r"(?<n>a)\k<n>", r"back-reference \k<n>"),
        ("a{1001}", "repeats more than 1000 times ({1001})"),
        ("(?:a{100}){100}", "nested repeats multiply"),
    ],
)
def test_pattern__R2_what_takes_unbounded_time_is_refused_with_a_reason(source: str, said: str) -> None:
    with pytest.raises(InvalidAssertion) as caught:
        compile_pattern(source)

    assert said in str(caught.value)
    assert repr(source) in str(caught.value)
    assert is_pattern(source, unicode=False)


@pytest.mark.parametrize("source", ["x" * 1_000_000, "|".join(["ab"] * 10_000), "(" * 400 + ")" * 400])
def test_pattern__R3_huge_patterns_are_refused(source: str) -> None:
    began = time.process_time()

    with pytest.raises(InvalidAssertion):
        compile_pattern(source)

    assert time.process_time() - began < 0.1


@pytest.mark.parametrize("source", ["(a+)+$", r"^(\w+\s?)*$", "(x|x)*y", "(.*)*z", "(a?){50}a{50}b"])
def test_pattern__R1_patterns_that_hang_other_engines_take_no_time(source: str) -> None:
    pattern = compile_pattern(source)
    text = "a" * 25_000 + "x" * 25_000 + "!"
    began = time.process_time()

    assert not pattern.search(text)
    assert time.process_time() - began < 0.1


def test_pattern__R1_work_that_no_engine_does_quickly_is_an_error() -> None:
    """Each `[ab]*a` doubles what the automaton must remember; it falls back to its slow form."""
    pattern = compile_pattern("(?:[ab]*a[ab]{9}){90}" * 20 + "c")

    assert not pattern.search("ab" * 500)
    with pytest.raises(CannotJudge, match="too large for an answer of 100,000 characters"):
        pattern.search("ab" * 50_000)
