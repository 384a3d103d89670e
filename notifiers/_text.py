"""Other people's text made harmless and short: no control characters, one line, cut by the measure of a platform."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

ELLIPSIS = "…"
NOTHING = "–"

# Cc controls with ESC, Cf invisible ones that turn or hide text (bidi overrides, zero width, tags), Cs halves of
# surrogates that no encoding takes, Co and Cn what no font knows. Emoji joiners are lost with them.
_REMOVED = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_ESCAPE_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\)?|[@-_])")
_LINE_BREAKS = re.compile(r"[\n\r\v\f\x85\u2028\u2029]+")
_EMPTY_LINES = re.compile(r"⏎(?: ⏎)+")
_MARKS = re.compile(r"([\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f]{3})"
                    r"[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20f0\ufe20-\ufe2f]+")  # fmt: skip


def one_line(text: str, *, look_at: int = 2000) -> str:
    """The text's beginning (as many characters as `look_at`) without anything invisible, line breaks shown as ⏎."""
    text = _LINE_BREAKS.sub(" ⏎ ", _ESCAPE_SEQUENCE.sub("", text[:look_at].strip())).replace("\t", " ")
    if not text.isprintable():
        text = "".join(char for char in text if char.isprintable() or unicodedata.category(char) not in _REMOVED)
    if not text.isascii():
        text = _EMPTY_LINES.sub("⏎", _MARKS.sub(r"\1", " ".join(text.split())))
    return " ".join(text.split())


def utf16_units(text: str) -> int:
    """Length as JavaScript counts it, which is never less than the number of code points."""
    return len(text) + sum(char > "\uffff" for char in text)


def utf8_bytes(text: str) -> int:
    return len(text.encode())


def cut(text: str, limit: int, *, measure: Callable[[str], int] = utf16_units) -> str:
    """The longest beginning that measures at most `limit`, with … if something is left out.

    `measure` must not fall as the text grows.
    """
    if measure(text) <= limit:
        return text
    low, high = 0, min(len(text), limit)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(text[:middle].rstrip() + ELLIPSIS) <= limit:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + ELLIPSIS if low else ELLIPSIS[:limit]


_SEARCHED_CHARS = 200_000
_QUOTED = re.compile(r"[\"“`']([^\"”`']{2,200})[\"”`']")


def useful_piece(answer: str, reasons: tuple[str, ...], *, limit: int) -> str:
    """The shortest piece of the answer that explains the reasons: around what one quotes, else its beginning."""
    if len(answer) <= limit:
        return cut(one_line(answer), limit)
    lowered = answer[:_SEARCHED_CHARS].lower()
    for quoted in (found.lower() for reason in reasons for found in _QUOTED.findall(reason[:1000])):
        place = lowered.find(quoted)
        if place >= 0:
            start = max(0, min(place - (limit - len(quoted)) // 2, len(answer) - limit))
            return (ELLIPSIS if start else "") + cut(one_line(answer[start:]), limit)
    return cut(one_line(answer), limit)


def percent(share: float) -> str:
    """`81 %`. Never 100 unless all of it is meant, never 0 unless nothing is."""
    rounded = round(share * 100)
    if rounded == 100 and share < 1:
        rounded = 99
    if rounded == 0 and share > 0:
        rounded = 1
    return f"{rounded} %"


def points(difference: float) -> str:
    """`+3 points`, `−12 points`, `no change`."""
    rounded = round(difference * 100)
    if not rounded:
        return "no change"
    return f"{'+' if rounded > 0 else '−'}{abs(rounded)} point{'' if abs(rounded) == 1 else 's'}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 case`, `1,200 cases`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def seconds(milliseconds: int) -> str:
    """`850 ms`, `12.3 s`, `4 min 10 s`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, rest = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {rest} s"


def dollars(usd: float) -> str:
    """`$0.0123`, `$1.25`; sums too small to show say so."""
    if usd and usd < 0.0001:
        return "under $0.0001"
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.4f}"


def age(seconds_passed: float) -> str:
    """`5 minutes`, `3 days`: the largest unit that is at least one."""
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds_passed >= length:
            return counted(int(seconds_passed // length), unit)
    return "less than a minute"
