"""How JavaScript reads and compares values, where suites rely on it: numbers, white space, equality, JSON.

Suites are written for engines that run on JavaScript; the same suite must give the same verdicts here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator

from evals.types import JsonValue

# https://tc39.es/ecma262/#sec-white-space and #sec-line-terminators: U+FEFF is white space,
# U+0085 and U+001C..U+001F are not, though Python's str.split() takes them for it.
WHITESPACE = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

_WORD = re.compile(f"[^{WHITESPACE}]+")
_OTHERWISE_IN_PYTHON = re.compile("[\u001c-\u001f\u0085\ufeff]")

# A JSON integer of up to 15 digits is exact in a double; a longer one is rounded as JavaScript rounds it.
_EXACT_DIGITS = 15


class NotJson(ValueError):
    """The text is not JSON as JavaScript's JSON.parse reads it."""


def number_text(number: float) -> str:
    """The number as JavaScript writes it: 1.0 is "1", 1e21 is "1e+21", -0.0 is "0"."""
    if isinstance(number, int) and abs(number) < 10**_EXACT_DIGITS:
        return str(number)
    double = _double(number)
    if math.isnan(double):
        return "NaN"
    if double == 0:
        return "0"
    return ("-" if double < 0 else "") + _magnitude_text(abs(double))


def _double(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _magnitude_text(number: float) -> str:
    """https://tc39.es/ecma262/#sec-numeric-types-number-tostring, for a number above 0 (or Infinity)."""
    if math.isinf(number):
        return "Infinity"
    # Python's repr holds the same shortest digits; only their layout differs.
    mantissa, _, exponent_text = repr(number).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    leading_zeros = len(whole + fraction) - len(digits)
    point = len(whole) - leading_zeros + int(exponent_text or 0)
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    shown = digits if count == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{shown}e{point - 1:+d}"


def text_of(value: JsonValue) -> str:
    """The value as JavaScript's String() gives it: "true", "null", a list's items with commas between."""
    match value:
        case str():
            return value
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return number_text(value)
        case list() | tuple():
            return ",".join("" if item is None else text_of(item) for item in value)
        case _:
            return "[object Object]"


def json_text(value: JsonValue) -> str:
    """The value as JSON.stringify writes it without indents."""
    match value:
        case str():
            return _quoted(value)
        case int() | float() if not isinstance(value, bool):
            return number_text(value) if math.isfinite(_double(value)) else "null"
        case list() | tuple():
            return "[" + ",".join(json_text(item) for item in value) + "]"
        case dict():
            pairs = (f"{_quoted(str(key))}:{json_text(item)}" for key, item in _in_key_order(value))
            return "{" + ",".join(pairs) + "}"
        case _:
            return text_of(value)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    # Half a surrogate pair is escaped, as in JavaScript since 2019; no encoder could write it.
    return "".join(f"\\u{ord(c):04x}" if "\ud800" <= c <= "\udfff" else c for c in quoted)


def _in_key_order(value: dict[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    """Keys that are array indexes come first, in ascending order, as in every JavaScript object."""
    indexes = [key for key in value if _is_array_index(key)]
    yield from ((key, value[key]) for key in sorted(indexes, key=int))
    yield from ((key, item) for key, item in value.items() if not _is_array_index(key))


def _is_array_index(key: str) -> bool:
    if not (key.isascii() and key.isdigit() and len(key) <= 10):
        return False
    return str(int(key)) == key and int(key) < 2**32 - 1


def parse_json(text: str) -> JsonValue:
    """The value of a strict JSON text, numbers as doubles. Raises NotJson.

    A byte order mark, NaN, comments and trailing commas are not JSON; of keys that stand twice the last wins.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_int=_read_integer)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise NotJson("nested too deeply to be read") from None


def parse_json_at(text: str, start: int) -> tuple[JsonValue, int]:
    """The value of the strict JSON that starts there, and where it ends. Raises NotJson."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at character {error.pos + 1}") from None
    except RecursionError:
        raise NotJson("nested too deeply to be read") from None


def _refuse_constant(name: str) -> JsonValue:
    raise NotJson(f"{name} is not a JSON number")


def _read_integer(digits: str) -> float:
    if digits == "-0":
        return -0.0
    return int(digits) if len(digits) <= _EXACT_DIGITS else float(digits)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_read_integer)


def equal(left: JsonValue, right: JsonValue) -> bool:
    """Whether two JSON values are deeply, strictly equal: true is not 1, 0 is not -0, key order is free."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(item, right[key]) for key, item in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if _is_number(left) and _is_number(right):
        return _double(left) == _double(right) and _is_negative(left) == _is_negative(right)
    return type(left) is type(right) and bool(left == right)


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_negative(number: float) -> bool:
    return math.copysign(1, _double(number)) < 0


def lower(text: str) -> str:
    """The text in lower case by Unicode's full mapping: İ becomes two characters, a final Σ becomes ς."""
    return text.lower()


def strip(text: str) -> str:
    """The text without JavaScript's white space at both ends."""
    return text.strip(WHITESPACE)


def words(text: str) -> list[str]:
    """The pieces between JavaScript's white space, empty ones left out."""
    if _OTHERWISE_IN_PYTHON.search(text) is None:
        return text.split()  # six times as fast
    # One at a time, so that other threads have their turn in between.
    return [found.group() for found in _WORD.finditer(text)]


def utf16_units(text: str) -> list[int]:
    """The UTF-16 code units, as JavaScript counts characters: an emoji is two."""
    data = text.encode("utf-16-le", "surrogatepass")
    return [low | high << 8 for low, high in zip(data[::2], data[1::2], strict=True)]
