"""JavaScript's patterns, on re2 and on QuickJS."""

from __future__ import annotations

import asyncio
import time

import pytest

from evals.errors import CannotJudge, InvalidAssertion
from evals.patterns import InvalidPattern, compile_pattern, is_pattern
from evals.scripts import QUICKJS


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
    ("source", "text", "found"),
    [
        ("a(?=b)", "ab", True),
        ("a(?!b)", "ab", False),
        ("(?<=€)\\d+", "€42", True),
        ("(?<!a)b", "ab", False),
        (r"^(.)(.)\2\1$", "abba", True),
        (r"(?<n>a)\k<n>", "ab", False),
        (r"(?=(..))\1$", "😀", True),  # one emoji is two units
        (r"(?=.)\u00e9\x41$", "éA", True),
        ('(?=")"\\\\$', '"\\', True),
        (r"(?!x)\n\u2028$", "\n\u2028", True),
        (r"^(?!.*\0)", "a", True),
        ("(?=\ud83d)", "😀", True),
        ("a{1001}", "a" * 1001, True),
        ("a{1001}", "a" * 1000, False),
        ("(?:a{100}){100}$", "a" * 10_000, True),
    ],
)
def test_pattern__R2_what_re2_cannot_run_has_javascripts_verdict(source: str, text: str, found: bool) -> None:
    pattern = compile_pattern(source)

    assert not pattern.is_linear
    assert pattern.search(text) is found


@pytest.mark.parametrize(
    ("source", "text", "found"),
    [
        (r"^(?=.$)", "😀", True),
        (r"(.)\1", "😀😀", True),
        (r"^\p{Alphabetic}+$", "äz", True),
        (r"\p{Emoji_Presentation}", "a", False),
    ],
)
def test_pattern__R2_what_re2_cannot_run_by_code_points(source: str, text: str, found: bool) -> None:
    pattern = compile_pattern(source, unicode=True)

    assert not pattern.is_linear
    assert pattern.search(text) is found


@pytest.mark.parametrize("source", [r"^(?=(a+)+$)", r"^(a|a)*\1$", r"(?=b)|(?:a?){60}a{60}(?<=b)"])
async def test_pattern__R1_one_that_hangs_is_stopped_after_its_second_and_the_loop_goes_on(source: str) -> None:
    pattern = compile_pattern(source)
    longest, began = [0.0], time.monotonic()
    watch = asyncio.create_task(_watch(longest))

    with pytest.raises(CannotJudge) as caught:
        await pattern.find("a" * 60 + "!")

    watch.cancel()
    assert "took longer than 1 s and was stopped, on an answer of 61 characters; make it simpler" in str(caught.value)
    assert repr(source) in str(caught.value)
    assert 0.9 < time.monotonic() - began < 10  # a second, and the start of a process on a loaded machine
    assert longest[0] < 0.5
    assert await compile_pattern("a(?=b)").find("ab")  # in a new process


async def _watch(longest: list[float]) -> None:
    """Keeps the longest time for which the event loop did nothing else."""
    while True:
        before = time.monotonic()
        await asyncio.sleep(0.005)
        longest[0] = max(longest[0], time.monotonic() - before - 0.005)


async def test_pattern__R1_memory_is_bounded_too() -> None:
    """Each step back is kept in memory: a million of them, and again for each start."""
    pattern = compile_pattern("(?=((?:(?:a|b)(?=))*c))")

    with pytest.raises(CannotJudge, match=r"took longer than|memory"):
        await pattern.find("ab" * 2_000_000)


def test_pattern__one_that_re2_can_run_starts_no_process() -> None:
    QUICKJS.close()

    assert compile_pattern("^a+$").search("aaa")
    assert QUICKJS.process_id is None


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
    with pytest.raises(CannotJudge, match="took longer than 1 s and was stopped, on an answer of 100,000 characters"):
        pattern.search("ab" * 50_000)
