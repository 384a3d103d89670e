"""JavaScript patterns: the verdicts of a JavaScript engine, in bounded time.

A pattern is read by JavaScript's grammar and written anew for re2, whose time is linear in the answer. Without the
`u` flag JavaScript sees UTF-16 units, so an emoji is two characters: its halves are moved to a plane of Unicode that
no answer holds afterwards.
What re2 cannot run (look-around, back-references) QuickJS runs in a process of its own, for one second at most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

import re2
from msgspec import Struct

from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import WHITESPACE
from evals.killable import off_the_loop
from evals.scripts import PATTERN_SECONDS, search

MAX_LENGTH: Final = 1000  # characters of a pattern
_MAX_REPEAT = 1000  # re2's own limit
_MAX_DEPTH = 100  # nested groups

# re2's slowest machine takes some 10 ns for one instruction on one byte, and a character has mostly one to three, so
# this is below a second.
_MAX_WORK = 60_000_000

_LAST_UNIT, _LAST_POINT = 0xFFFF, 0x10FFFF
_FIRST_HALF, _LAST_HALF = 0xD800, 0xDFFF
_MOVED = 0x100000  # a half of a surrogate pair lives at this offset while re2 works

Span = tuple[int, int]

_DIGIT: tuple[Span, ...] = ((0x30, 0x39),)
_WORD: tuple[Span, ...] = ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A))
_SPACE: tuple[Span, ...] = tuple((ord(c), ord(c)) for c in WHITESPACE)
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_CONTROLS = {"f": 0x0C, "n": 0x0A, "r": 0x0D, "t": 0x09, "v": 0x0B}
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")


class Pattern(Struct, frozen=True):
    """A pattern that is ready to search. Made by `compile_pattern`."""

    source: str
    unicode: bool
    compiled: Any  # re2 brings no types; None for what re2 cannot run

    @property
    def is_linear(self) -> bool:
        """Whether re2 runs it. If not, a search blocks its thread for up to a second."""
        return self.compiled is not None

    def is_linear_on(self, text: str) -> bool:
        """Whether re2 searches this text, in well below a second."""
        return self.compiled is not None and len(text) * 3 * self.compiled.programsize <= _MAX_WORK

    def search(self, text: str, *, seconds: float = PATTERN_SECONDS) -> bool:
        """Whether the pattern matches somewhere in the text. May block for `seconds`: see `find`.

        Raises CannotJudge when it takes longer, or more memory than there is.
        """
        if self.is_linear_on(text):
            subject = _points(text) if self.unicode else _units(text)
            return self.compiled.search(subject.encode("utf-8")) is not None
        try:
            return search(self.source, unicode=self.unicode, text=text, seconds=seconds)
        except CannotJudge as error:
            raise CannotJudge(
                f"the pattern {_shown(self.source)} {error.message}, on an answer of {len(text):,} characters; "
                "make it simpler (no repeat inside a repeat), or say it with two assertions"
            ) from None

    async def find(self, text: str) -> bool:
        """As `search`, with the event loop free all the while."""
        return self.search(text) if self.is_linear_on(text) else await off_the_loop(lambda: self.search(text))


class InvalidPattern(InvalidAssertion):
    """JavaScript itself would refuse the pattern."""


@lru_cache(maxsize=512)
def compile_pattern(source: str, *, unicode: bool = False) -> Pattern:
    """The pattern, without flags or with JavaScript's `u` alone. Safe to call often.

    Raises InvalidPattern for what JavaScript refuses, InvalidAssertion for what is too long or nested too deeply.
    """
    reader = _read(source, unicode=unicode)
    return Pattern(source, unicode, _compiled(reader.written) if reader.is_linear else None)


def _compiled(written: str) -> Any:
    """What re2 makes of its form of the pattern; None if it is too large or names a script that re2 does not know."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        return re2.compile(written.encode("utf-8"), options)
    except re2.error:
        return None


def is_pattern(source: str, *, unicode: bool) -> bool:
    """Whether JavaScript takes the text for a pattern, be it one that re2 can run or not."""
    try:
        _read(source, unicode=unicode)
    except InvalidPattern:
        return False
    return True


def _read(source: str, *, unicode: bool) -> _Reader:
    if len(source) > MAX_LENGTH:
        raise InvalidAssertion(f"the pattern has {len(source):,} characters; {MAX_LENGTH:,} are the most")
    reader = _Reader(_points(source) if unicode else _units(source), unicode=unicode)
    try:
        reader.read_pattern()
    except _Refusal as refusal:
        raise InvalidPattern(f"the pattern {_shown(source)} is not valid: {refusal}") from None
    return reader


def _shown(source: str) -> str:
    return repr(source if len(source) <= 60 else source[:57] + "...")


_HALVES = re.compile("[\ud800-\udfff]")
_PAIRS_AND_HALVES = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")


def _units(text: str) -> str:
    """The text with one character for each UTF-16 unit; the halves of pairs are moved."""
    return _PAIRS_AND_HALVES.sub(_split_pair, text)


def _split_pair(match: re.Match[str]) -> str:
    point = ord(match[0])
    if point <= _LAST_UNIT:
        return chr(_MOVED + point)
    high, low = divmod(point - 0x10000, 0x400)
    return chr(_MOVED + 0xD800 + high) + chr(_MOVED + 0xDC00 + low)


def _points(text: str) -> str:
    """The text by code points; a lone half, which UTF-8 cannot hold, becomes the replacement character."""
    return _HALVES.sub("\ufffd", text)


class _Refusal(Exception):
    """What JavaScript's grammar says against the pattern."""


class _Reader:
    """Reads a pattern by https://tc39.es/ecma262/#sec-patterns (annex B unless `unicode`), writes re2's form.

    All groups are written without capture, as only "does it match" is ever asked.
    """

    def __init__(self, text: str, *, unicode: bool) -> None:
        self.written = ""
        self.is_linear = True  # False as soon as there is a piece that re2 cannot run
        self._text = text
        self._unicode = unicode
        self._at = 0
        self._depth = 0
        self._last = _LAST_POINT if unicode else _LAST_UNIT
        self._groups, self._names = _count_groups(text)

    def read_pattern(self) -> None:
        if len(self._names) != len(set(self._names)):
            raise _Refusal("two groups have the same name")
        self.written = self._disjunction()
        if self._at < len(self._text):
            raise _Refusal(f"a closing parenthesis without an opening one, at character {self._at + 1}")

    # --- moving through the text

    def _ahead(self, piece: str) -> bool:
        return self._text.startswith(piece, self._at)

    def _take(self, piece: str) -> bool:
        found = self._ahead(piece)
        if found:
            self._at += len(piece)
        return found

    def _take_match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()
        return match

    def _next(self) -> str:
        if self._at >= len(self._text):
            raise _Refusal("it ends in a backslash")
        self._at += 1
        return self._text[self._at - 1]

    # --- alternatives, terms, quantifiers

    def _disjunction(self) -> str:
        pieces: list[str] = []
        while self._at < len(self._text) and not self._ahead(")"):
            pieces.append("|" if self._take("|") else self._term())
        return "".join(pieces)

    def _term(self) -> str:
        for simple, form in (("^", r"\A"), ("$", r"\z"), (r"\b", r"\b"), (r"\B", r"\B")):
            if self._take(simple):
                self._refuse_quantifier()
                return form
        if look := self._take_match(_LOOK):
            return self._look_around(look[0])
        return self._atom() + self._quantifier()

    def _look_around(self, opening: str) -> str:
        behind = "<" in opening
        self.is_linear = False
        self._group_body()
        if behind or self._unicode:
            self._refuse_quantifier()
        else:
            self._quantifier()
        return ""

    def _quantifier(self) -> str:
        if self._take("*") or self._take("+") or self._take("?"):
            sign = self._text[self._at - 1]
        elif counts := self._take_match(_COUNTS):
            sign = self._counted(counts)
        else:
            return ""
        lazy = "?" if self._take("?") else ""
        self._refuse_quantifier()
        return sign + lazy

    def _counted(self, counts: re.Match[str]) -> str:
        least, comma, most = counts.groups()
        if most and int(most) < int(least):
            raise _Refusal(f"the numbers in {counts[0]} are out of order")
        if max(int(least), int(most or 0)) > _MAX_REPEAT:
            self.is_linear = False
            return ""
        return f"{{{int(least)}{comma or ''}{int(most) if most else ''}}}"

    def _refuse_quantifier(self) -> None:
        if self._text[self._at : self._at + 1] in ("*", "+", "?") and self._at < len(self._text):
            raise _Refusal(f"nothing to repeat before {self._text[self._at]!r}, at character {self._at + 1}")
        if _COUNTS.match(self._text, self._at):
            raise _Refusal(f"nothing to repeat before '{{', at character {self._at + 1}")

    # --- atoms

    def _atom(self) -> str:
        self._refuse_quantifier()
        if self._take("("):
            return self._group()
        if self._take("["):
            return self._class()
        if self._take("."):
            return r"[^\n\r\x{2028}\x{2029}]"
        if self._take("\\"):
            return self._escape()
        char = self._next()
        if self._unicode and char in "]{}":
            raise _Refusal(f"a lone {char!r}, at character {self._at}")
        return _literal(char)

    def _group(self) -> str:
        if self._ahead("?") and not self._take_match(_GROUP_HEAD):
            raise _Refusal(f"an unknown kind of group (?{self._text[self._at + 1 : self._at + 2]}")
        return f"(?:{self._group_body()})"

    def _group_body(self) -> str:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidAssertion(f"the pattern nests its groups more than {_MAX_DEPTH} deep")
        body = self._disjunction()
        if not self._take(")"):
            raise _Refusal("a group is not closed")
        self._depth -= 1
        return body

    def _escape(self) -> str:
        char = self._next()
        if char.lower() in _CLASSES:
            return self._write_class(self._class_escape(char), [], negated=False)
        if char in "pP" and self._unicode:
            return self._property(char)
        if char == "k" and (self._names or self._unicode):
            return self._named_reference()
        if char in "123456789" and (reference := self._reference(char)):
            return reference
        return _literal(self._point_text(self._character_escape(char)))

    def _named_reference(self) -> str:
        name = self._take_match(_NAME)
        if name is None or name[1] not in self._names:
            raise _Refusal("\\k names no group")
        return self._reference_found()

    def _reference(self, first: str) -> str | None:
        rest = _DIGITS.match(self._text, self._at)
        number = int(first + (rest[0] if rest else ""))
        if number > self._groups:
            if self._unicode:
                raise _Refusal(f"\\{number} names no group")
            return None
        self._at = rest.end() if rest else self._at
        return self._reference_found()

    def _reference_found(self) -> str:
        self.is_linear = False
        return "(?:)"

    def _class_escape(self, letter: str) -> list[Span]:
        spans = list(_CLASSES[letter.lower()])
        return _complement(spans, last=self._last) if letter.isupper() else spans

    def _property(self, letter: str) -> str:
        name = self._take_match(_PROPERTY)
        if name is None:
            raise _Refusal(f"\\{letter} wants a name in braces, such as \\{letter}{{Lu}}")
        value = name["script"] or name["category"]
        if not value:
            self.is_linear = False
            return ""
        return f"\\{letter}{{{value}}}"

    def _character_escape(self, char: str) -> int:  # noqa: PLR0911 - one line for each kind of escape
        """The character that stands for itself after the backslash and `char`."""
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "c" and (letter := self._take_match(_LETTER)):
            return ord(letter[0]) % 32
        if char == "c" and not self._unicode:
            self._at -= 1
            return ord("\\")
        if char == "x" and (digits := self._take_match(_HEX2)):
            return int(digits[0], 16)
        if char == "u" and (point := self._unicode_escape()) is not None:
            return point
        if char in "01234567":
            return self._octal(char)
        if self._unicode and char not in _SYNTAX:
            raise _Refusal(f"\\{char} has no meaning here")
        return ord(char)

    def _unicode_escape(self) -> int | None:
        if self._unicode and (braced := self._take_match(_BRACED)):
            if int(braced[1], 16) > _LAST_POINT:
                raise _Refusal(f"\\u{braced[0]} is no character")
            return int(braced[1], 16)
        if self._unicode and (pair := self._take_match(_PAIR)):
            return 0x10000 + (int(pair[1], 16) - 0xD800) * 0x400 + int(pair[2], 16) - 0xDC00
        digits = self._take_match(_HEX4)
        return int(digits[0], 16) if digits else None

    def _octal(self, first: str) -> int:
        if self._unicode:
            if first == "0" and not _DIGITS.match(self._text, self._at):
                return 0
            raise _Refusal(f"\\{first} has no meaning here")
        rest = self._take_match(_OCTAL2 if first in "0123" else _OCTAL1)
        return int(first + (rest[0] if rest else ""), 8)

    # --- classes

    def _class(self) -> str:
        negated = self._take("^")
        spans: list[Span] = []
        properties: list[str] = []
        while not self._take("]"):
            self._class_item(spans, properties)
        return self._write_class(spans, properties, negated=negated)

    def _class_item(self, spans: list[Span], properties: list[str]) -> None:
        low = self._class_atom(properties)
        if not self._ahead("-") or self._ahead("-]"):
            spans.extend([(low, low)] if isinstance(low, int) else low)
            return
        self._at += 1
        high = self._class_atom(properties)
        if isinstance(low, int) and isinstance(high, int):
            if low > high:
                raise _Refusal("a range in a class is out of order")
            spans.append((low, high))
            return
        if self._unicode:
            raise _Refusal("a class such as \\d cannot be the end of a range")
        spans.append((ord("-"), ord("-")))
        for side in (low, high):
            spans.extend([(side, side)] if isinstance(side, int) else side)

    def _class_atom(self, properties: list[str]) -> int | list[Span]:  # noqa: PLR0911 - as above
        """One character, or the spans of an escape such as \\d (none for a property, which is kept apart)."""
        if self._at >= len(self._text):
            raise _Refusal("a class is not closed")
        if not self._take("\\"):
            return self._point_of(self._next())
        char = self._next()
        if char.lower() in _CLASSES:
            return self._class_escape(char)
        if char in "pP" and self._unicode:
            properties.append(self._property(char))
            return []
        if char == "b":
            return 0x08
        if char == "-" and self._unicode:
            return ord("-")
        if char == "c" and not self._unicode and (letter := self._take_match(_CLASS_CONTROL)):
            return ord(letter[0]) % 32
        if char == "k" and self._names and not self._unicode:
            raise _Refusal("\\k has no meaning in a class")
        point = self._character_escape(char)
        return self._point_of(char) if point == ord(char) else point

    def _write_class(self, spans: Iterable[Span], properties: list[str], *, negated: bool) -> str:
        body = "".join(_span_text(low, high) for low, high in self._movable(spans)) + "".join(properties)
        if not body:
            return r"(?s:.)" if negated else r"[^\x{0}-\x{10FFFF}]"
        return f"[{'^' if negated else ''}{body}]"

    def _movable(self, spans: Iterable[Span]) -> Iterable[Span]:
        """The spans where re2 finds them: halves of pairs are moved, or cannot occur at all with `u`."""
        for low, high in spans:
            if low < _FIRST_HALF:
                yield low, min(high, _FIRST_HALF - 1)
            first, last = max(low, _FIRST_HALF), min(high, _LAST_HALF)
            if first <= last and not self._unicode:
                yield first + _MOVED, last + _MOVED
            if high > _LAST_HALF:
                yield max(low, _LAST_HALF + 1), high

    def _point_of(self, char: str) -> int:
        point = ord(char)
        return point if self._unicode or point <= _LAST_UNIT else point - _MOVED

    def _point_text(self, point: int) -> str:
        if _FIRST_HALF <= point <= _LAST_HALF:
            # With `u` a lone half matches no answer, which holds none; U+FFFD would stand for other text.
            return chr(_MOVED + point)
        return chr(point)


_LOOK = re.compile(r"\(\?<?[=!]")
_COUNTS = re.compile(r"\{([0-9]+)(,)?((?<=,)[0-9]+)?\}")
_GROUP_HEAD = re.compile(r"\?(?::|<(?:[^\W\d]|\$)[\w$]*>)")
_GROUP_NAME = re.compile(r"\(\?<((?:[^\W\d]|\$)[\w$]*)>")
_NAME = re.compile(r"<([^>]*)>")
_DIGITS = re.compile("[0-9]+")
_LETTER = re.compile("[A-Za-z]")
_CLASS_CONTROL = re.compile("[A-Za-z0-9_]")
_HEX2 = re.compile("[0-9A-Fa-f]{2}")
_HEX4 = re.compile("[0-9A-Fa-f]{4}")
_BRACED = re.compile(r"\{([0-9A-Fa-f]+)\}")
_PAIR = re.compile(r"([dD][89abAB][0-9A-Fa-f]{2})\\u([dD][c-fC-F][0-9A-Fa-f]{2})")
_OCTAL1 = re.compile("[0-7]")
_OCTAL2 = re.compile("[0-7]{1,2}")
_PROPERTY = re.compile(
    r"\{(?:(?:Script|sc)=(?P<script>[A-Za-z_]+)|(?:(?:General_Category|gc)=)?(?P<category>L[ultmo]?|M[nce]?|N[dlo]?"
    r"|P[cdseifo]?|S[mcko]?|Z[slp]?|C[cfo]?)|(?P<other>[A-Za-z_]+(?:=[A-Za-z_0-9]+)?))\}"
)


def _count_groups(text: str) -> tuple[int, list[str]]:
    """How many groups capture, and their names: escapes such as \\2 and \\k read differently by them."""
    count, names, in_class, at = 0, [], False, 0
    while at < len(text):
        char = text[at]
        if char == "\\":
            at += 1
        elif in_class:
            in_class = char != "]"
        elif char == "[":
            in_class = True
        elif name := _GROUP_NAME.match(text, at):
            count += 1
            names.append(name[1])
        elif char == "(" and not text.startswith("(?", at):
            count += 1
        at += 1
    return count, names


def _complement(spans: list[Span], *, last: int) -> list[Span]:
    gaps, start = [], 0
    for low, high in sorted(spans):
        if low > start:
            gaps.append((start, low - 1))
        start = max(start, high + 1)
    return [*gaps, (start, last)] if start <= last else gaps


def _span_text(low: int, high: int) -> str:
    return f"\\x{{{low:X}}}" if low == high else f"\\x{{{low:X}}}-\\x{{{high:X}}}"


def _literal(char: str) -> str:
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):X}}}"
