"""One spelling for one JSON value (RFC 8785), so that a signature or a digest over it means the value itself."""

from __future__ import annotations

import json
import math

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
        return _text(value).encode()
    except UnicodeEncodeError:
        raise NotCanonical("The document holds half a surrogate pair.") from None
    except RecursionError:
        raise NotCanonical("The document is nested too deeply.") from None


def _text(value: JsonValue) -> str:
    if isinstance(value, dict):
        pairs = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be", "surrogatepass"))
        return "{" + ",".join(f"{_string(key)}:{_text(item)}" for key, item in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(map(_text, value)) + "]"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return _number(value)


def _string(text: str) -> str:
    # json.dumps writes control characters as RFC 8785 asks for: \b \t \n \f \r, else four lower-case hex digits.
    return json.dumps(text, ensure_ascii=False)


def _number(number: float) -> str:
    # 2**53: above it, neighbouring whole numbers are one double.
    if not math.isfinite(number) if isinstance(number, float) else abs(number) > 2**53:
        raise NotCanonical(f"The document holds {str(number)[:40]}, which is no number of canonical JSON.")
    return number_text(number)
