"""How assertions read their `value` and `threshold`, and how they show text in a reason."""

from __future__ import annotations

import math

from msgspec import UNSET

from evals.errors import InvalidAssertion
from evals.javascript import WHITESPACE, number_text, strip, text_of
from evals.types import Assertion

_SHOWN_CHARACTERS = 80


def quoted(text: str) -> str:
    """The text in quotes for a reason, shortened to 80 characters."""
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "...")


def require_text(spec: Assertion) -> str:
    """The value, a text of at least one character. Raises InvalidAssertion."""
    if not isinstance(spec.value, str) or not spec.value:
        raise InvalidAssertion(f"{spec.type}: `value` must be a text that is not empty")
    return spec.value


def require_text_or_number(spec: Assertion) -> str:
    """The value as text: a text that is not empty, or a number. Raises InvalidAssertion."""
    value = spec.value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number_text(value)
    if not isinstance(value, str) or not value:
        raise InvalidAssertion(f"{spec.type}: `value` must be a text that is not empty, or a number")
    return value


def require_texts(spec: Assertion) -> list[str]:
    """The values of a list, or of a text that is split at its commas. Raises InvalidAssertion."""
    if isinstance(spec.value, list | tuple):
        return [text_of(item) for item in spec.value]
    if isinstance(spec.value, str) and spec.value:
        return split_at_commas(spec.value, type_=spec.type)
    raise InvalidAssertion(f"{spec.type}: `value` must be a list of texts, or one text with commas between them")


def require_threshold(spec: Assertion) -> float:
    """The threshold, at least 0. Raises InvalidAssertion when none is given."""
    if spec.threshold is None:
        raise InvalidAssertion(f"{spec.type}: `threshold` is missing")
    return spec.threshold


def refuse_value(spec: Assertion) -> None:
    """Raises InvalidAssertion if a value is given to an assertion that has only a threshold."""
    if spec.value is not UNSET and spec.value is not None:
        raise InvalidAssertion(f"{spec.type}: takes no `value`; the limit belongs in `threshold`")


def refuse_settings(spec: Assertion) -> None:
    """Raises InvalidAssertion if a value is given to an assertion that looks at the answer alone."""
    if spec.value is not UNSET and spec.value is not None:
        raise InvalidAssertion(f"{spec.type}: takes no `value`; it looks at the answer alone, so leave `value` out")


def number_of(value: object) -> float | None:
    """The number that the value is or, as text, spells; None for anything else, infinity included."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(strip(value)) if isinstance(value, str) else float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def split_at_commas(text: str, *, type_: str) -> list[str]:
    """The fields of the text: trimmed, empty ones left out; a field in double quotes is kept as it is."""
    fields: list[str] = []
    at = 0
    while True:
        while at < len(text) and (text[at] == "," or text[at] in WHITESPACE):
            at += 1
        if at == len(text):
            return fields
        if text[at] == '"':
            field, at = _read_quoted(text, at + 1, type_=type_)
        else:
            end = text.find(",", at)
            end = len(text) if end < 0 else end
            field, at = strip(text[at:end]), end
        fields.append(field)


def _read_quoted(text: str, at: int, *, type_: str) -> tuple[str, int]:
    """The field that starts after its opening quote, and where the rest starts: at a comma or the end."""
    field: list[str] = []
    while at < len(text):
        pair = text[at : at + 2]
        if pair in ('\\"', "\\\\", '""'):
            field.append(pair[1])
            at += 2
        elif text[at] == '"':
            return "".join(field), _comma_after(text, at + 1, type_=type_)
        else:
            field.append(text[at])
            at += 1
    raise InvalidAssertion(f'{type_}: a double quote in `value` is not closed; write it twice ("") to mean itself')


def _comma_after(text: str, at: int, *, type_: str) -> int:
    while at < len(text) and text[at] in WHITESPACE:
        at += 1
    if at < len(text) and text[at] != ",":
        raise InvalidAssertion(f"{type_}: a comma is missing after a quoted field of `value`")
    return at
