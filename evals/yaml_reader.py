"""YAML as a data format only: JSON's types, the core schema of YAML 1.2, no aliases, tags or twice-used keys.

The text is read event by event, so nothing that YAML can do beyond data is ever constructed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from evals.json_reader import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_VALUES,
    Document,
    InvalidText,
    Path,
    decode_text,
    require_plain,
)
from evals.types import JsonValue

# The C loader is absent where PyYAML was built without libyaml.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# https://yaml.org/spec/1.2.2/#103-core-schema: `no`, `on` and dates are text, unlike in YAML 1.1.
_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS = {word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")}
_INT = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TEXT_TAGS = frozenset(("!", "tag:yaml.org,2002:str"))


def read_yaml(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Document:
    """The one document's value and lines; an empty text is None. Raises InvalidText."""
    text = decode_text(data, max_bytes=max_bytes)
    builder = _Builder(iter(yaml.parse(text, Loader=_LOADER)))
    try:
        value = builder.read_stream()
    except yaml.MarkedYAMLError as error:
        raise InvalidText(_sentence(error), line=_error_line(error)) from None
    except yaml.YAMLError as error:
        raise InvalidText(_reader_sentence(error), line=_reader_line(error, text)) from None
    document = Document(value, builder.lines)
    require_plain(document)
    return document


class _Builder:
    """Turns YAML's events into values, and keeps the line of each."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self.lines: dict[Path, int] = {}

    def read_stream(self) -> JsonValue:
        next(self._events)  # the start of the stream
        event = next(self._events)
        if isinstance(event, yaml.StreamEndEvent):
            return None
        value = self._read(next(self._events), ())
        next(self._events)  # the end of the document
        if not isinstance(event := next(self._events), yaml.StreamEndEvent):
            raise InvalidText("holds more than one document; keep one", line=_line(event))
        return value

    def _read(self, event: Any, path: Path) -> JsonValue:
        self.lines.setdefault(path, _line(event))
        if len(self.lines) > MAX_VALUES:
            raise InvalidText(f"holds more than {MAX_VALUES:,} values", line=_line(event))
        _refuse_references(event)
        if isinstance(event, yaml.ScalarEvent):
            return _read_scalar(event)
        if event.tag is not None:
            raise InvalidText(f"the tag {event.tag!r} is not supported", line=_line(event))
        if len(path) >= MAX_DEPTH:
            raise InvalidText(f"nested more than {MAX_DEPTH} deep", line=_line(event))
        if isinstance(event, yaml.SequenceStartEvent):
            return self._read_list(path)
        return self._read_mapping(path)

    def _read_list(self, path: Path) -> list[JsonValue]:
        items: list[JsonValue] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._read(event, (*path, len(items))))
        return items

    def _read_mapping(self, path: Path) -> dict[str, JsonValue]:
        items: dict[str, JsonValue] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = _read_key(event)
            if key in items:
                raise InvalidText(f"the key {key!r} stands twice", line=_line(event), path=(*path, key))
            self.lines[(*path, key)] = _line(event)
            items[key] = self._read(next(self._events), (*path, key))
        return items


def _read_key(event: Any) -> str:
    _refuse_references(event)
    if not isinstance(event, yaml.ScalarEvent):
        # What `input: {{question}}` looks like to YAML.
        raise InvalidText(
            "a key must be plain text; a value that starts with { or [ needs quotes around it",
            line=_line(event),
        )
    if event.implicit[0] and event.value == "<<":
        raise InvalidText("merge keys (<<) are not supported; write the keys out", line=_line(event))
    return str(event.value)


def _refuse_references(event: Any) -> None:
    if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
        raise InvalidText(
            "anchors (&) and aliases (*) are not supported; write the value out, or put quotes around it",
            line=_line(event),
        )


def _read_scalar(event: Any) -> JsonValue:
    text: str = event.value
    if event.tag in _TEXT_TAGS or (event.tag is None and not event.implicit[0]):
        return text
    if event.tag is not None:
        raise InvalidText(f"the tag {event.tag!r} is not supported", line=_line(event))
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    return _read_number(text, line=_line(event))


def _read_number(text: str, *, line: int) -> JsonValue:
    if _NOT_FINITE.fullmatch(text):
        raise InvalidText(f"{text} is not a finite number; put quotes around it if it is text", line=line)
    is_int, is_based = _INT.fullmatch(text), _OCTAL_OR_HEX.fullmatch(text)
    if (is_int or is_based) and len(text) > 25:
        raise InvalidText("the number has more than 64 bits; put quotes around it if it is text", line=line)
    if is_based:
        return int(text, 0)
    if is_int:
        return int(text)
    # No float that anybody means has 400 characters; longer ones are text.
    if len(text) <= 400 and _FLOAT.fullmatch(text):
        number = float(text)
        if not math.isfinite(number):
            raise InvalidText("the number is not finite; put quotes around it if it is text", line=line)
        return number
    return text


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _error_line(error: yaml.MarkedYAMLError) -> int | None:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else None


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "it cannot be read"
    if "cannot start any token" in problem:
        problem += " (a tab, or a value that needs quotes)"
    return f"not YAML: {problem}"


def _reader_sentence(error: yaml.YAMLError) -> str:
    character = getattr(error, "character", None)
    if isinstance(character, int):
        return f"not YAML: the character U+{character:04X} is not allowed"
    return "not YAML: it holds a character that is not allowed"


def _reader_line(error: yaml.YAMLError, text: str) -> int | None:
    position = getattr(error, "position", None)
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else None
