"""One spelling for one JSON value (RFC 8785), so that a signature or a digest over it means the value itself."""

from __future__ import annotations

from collections.abc import Callable

# Writes control characters as RFC 8785 asks for: \\b \\t \\n \\f \\r, else four lower-case hex digits.
from json.encoder import encode_basestring

from evals.errors import EngineError
from evals.javascript import number_text
from evals.types import JsonValue


class NotCanonical(EngineError):
    """A value that no canonical JSON has."""


def canonical_json(value: JsonValue) -> bytes:
    """The value by RFC 8785: no white space, keys sorted by UTF-16, numbers as JavaScript writes them.

    Raises NotCanonical for NaN, infinities, whole numbers that a double cannot hold, and halves of surrogate pairs.
    """
    try:
        pieces: list[str] = []
        _write(value, pieces.append)
        return "".join(pieces).encode()
    except UnicodeEncodeError:
        raise NotCanonical("The document holds half a surrogate pair.") from None
    except RecursionError:
        raise NotCanonical("The document is nested too deeply.") from None


def _write(value: JsonValue, out: Callable[[str], None]) -> None:
    """The value's pieces, one after the other: large documents are one list of them."""
    if isinstance(value, str):
        out(encode_basestring(value))
    elif isinstance(value, dict):
        mark = "{"
        for key in _sorted(value):
            out(f"{mark}{encode_basestring(key)}:")
            _write(value[key], out)
            mark = ","
        out("}" if value else "{}")
    elif isinstance(value, list | tuple):
        mark = "["
        for item in value:
            out(mark)
            _write(item, out)
            mark = ","
        out("]" if value else "[]")
    elif value is None or value is True or value is False:
        out({None: "null", True: "true", False: "false"}[value])
    else:
        out(_number(value))


def _sorted(value: dict[str, JsonValue]) -> list[str]:
    # By UTF-16 units; for ASCII, which nearly all keys are, that is the order of the characters.
    if all(map(str.isascii, value)):
        return sorted(value)
    return sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))


def _number(number: JsonValue) -> str:
    text = number_text(number)
    # A whole number that JavaScript writes otherwise is one that it cannot hold; so is NaN, and what is beyond all.
    if text in ("NaN", "Infinity", "-Infinity") or (isinstance(number, int) and text != str(number)):
        raise NotCanonical(f"The document holds {str(number)[:40]}, which is no number of canonical JSON.")
    return text
