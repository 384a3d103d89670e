"""Strict JSON with line numbers: duplicate keys, NaN, deep nesting and unstorable text are refused."""

from __future__ import annotations

import json
import math
import re
from typing import NoReturn

from msgspec import Struct

from evals.errors import EngineError
from evals.types import JsonValue

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_VALUES = 100_000  # so that any text is read within a second

# PostgreSQL's bigint and msgspec both end here.
_SMALLEST_INT, _LARGEST_INT = -(2**63), 2**63 - 1

Path = tuple[str | int, ...]


class InvalidText(EngineError):
    """A JSON or YAML text that cannot be used. `line` counts from 1; `path` is set when the value has one."""

    def __init__(self, message: str, *, line: int | None = None, path: Path = ()) -> None:
        super().__init__(message)
        self.line = line
        self.path = path


class Document(Struct, frozen=True):
    """A decoded text and the line (from 1) on which each of its values stands."""

    value: JsonValue
    lines: dict[Path, int]

    def line_of(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it that has one."""
        for length in range(len(path), -1, -1):
            if line := self.lines.get(path[:length]):
                return line
        return None


def read_json(data: bytes | str, *, max_bytes: int = MAX_BYTES) -> Document:
    """The JSON text's value and lines. Raises InvalidText."""
    text = decode_text(data, max_bytes=max_bytes)
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int, parse_float=_read_float)
    except json.JSONDecodeError as error:
        raise InvalidText(f"not JSON: {error.msg}", line=error.lineno) from None
    except RecursionError:
        raise InvalidText(_too_deep()) from None
    document = Document(value, _find_lines(text))
    require_plain(document)
    return document


def decode_text(data: bytes | str, *, max_bytes: int) -> str:
    """UTF-8 text without byte order mark, NUL or half surrogate pairs. Raises InvalidText."""
    if len(data) > max_bytes:
        raise InvalidText(f"larger than {max_bytes:,} bytes")
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
        size = len(text.encode("utf-8"))
    except UnicodeError:
        raise InvalidText("not UTF-8 text") from None
    if size > max_bytes:
        raise InvalidText(f"larger than {max_bytes:,} bytes")
    if "\0" in text:
        raise InvalidText("holds a NUL character", line=text.count("\n", 0, text.index("\0")) + 1)
    return text.removeprefix("\ufeff")


def require_plain(document: Document) -> None:
    """Raises InvalidText unless the value has JSON's types only, is at most 40 deep, finite and storable.

    Escapes such as `\\u0000` make, from a clean text, strings that PostgreSQL cannot hold.
    """
    waiting: list[tuple[Path, JsonValue]] = [((), document.value)]
    while waiting:
        path, value = waiting.pop()
        if problem := _problem_with(value, depth=len(path)):
            raise InvalidText(problem, line=document.line_of(path), path=path)
        if isinstance(value, dict):
            waiting.extend(((*path, key), item) for key, item in value.items())
            _require_plain_keys(value, line=document.line_of(path), path=path)
        elif isinstance(value, list):
            waiting.extend(((*path, index), item) for index, item in enumerate(value))


def _require_plain_keys(mapping: dict[JsonValue, JsonValue], *, line: int | None, path: Path) -> None:
    for key in mapping:
        if not isinstance(key, str) or _problem_with_text(key):
            raise InvalidText(f"the key {key!r} is not plain text", line=line, path=path)


def _problem_with(value: JsonValue, *, depth: int) -> str | None:
    match value:
        case None | bool():
            return None
        case str():
            return _problem_with_text(value)
        case int():
            return None if _SMALLEST_INT <= value <= _LARGEST_INT else "the number has more than 64 bits"
        case float():
            return None if math.isfinite(value) else "the number is not finite"
        case dict() | list():
            return _too_deep() if depth >= MAX_DEPTH else None
        case _:
            return f"{type(value).__name__} is no JSON value"


def _problem_with_text(text: str) -> str | None:
    if "\0" in text:
        return "the text holds a NUL character"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "the text holds half of a surrogate pair"
    return None


def _too_deep() -> str:
    return f"nested more than {MAX_DEPTH} deep"


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidText(f"{name} is no JSON number")


def _read_int(digits: str) -> int:
    # Python refuses more than 4,300 digits with an error of its own.
    return int(digits) if len(digits) <= 25 else _LARGEST_INT + 1


def _read_float(digits: str) -> float:
    return float(digits) if len(digits) <= 400 else math.inf


_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:\n]|[^\s{}\[\],:"]+')


class _Frame:
    """One open object or array while lines are counted; `at` is the key or index that comes next."""

    __slots__ = ("at", "path")

    def __init__(self, path: Path, at: str | int | None) -> None:
        self.path = path
        self.at = at


def _find_lines(text: str) -> dict[Path, int]:
    """Path -> line for a text that is known to be JSON. Raises InvalidText on a key that stands twice."""
    lines: dict[Path, int] = {}
    stack: list[_Frame] = []
    line = 1
    for match in _PIECE.finditer(text):
        piece = match[0]
        frame = stack[-1] if stack else None
        if piece == "\n":
            line += 1
        elif piece in ("}", "]"):
            stack.pop()
        elif piece == ",":
            assert frame is not None  # noqa: S101 - valid JSON has no comma outside an object or array
            frame.at = frame.at + 1 if isinstance(frame.at, int) else None
        elif piece == ":":
            continue
        elif frame is not None and frame.at is None:
            frame.at = _read_key(piece, frame, lines, line)
        else:
            path = (*frame.path, frame.at) if frame and frame.at is not None else ()
            lines.setdefault(path, line)
            if len(lines) > MAX_VALUES:
                raise InvalidText(f"holds more than {MAX_VALUES:,} values", line=line)
            if piece in ("{", "["):
                if len(stack) >= MAX_DEPTH:
                    raise InvalidText(_too_deep(), line=line)
                stack.append(_Frame(path, 0 if piece == "[" else None))
    return lines


def _read_key(piece: str, frame: _Frame, lines: dict[Path, int], line: int) -> str:
    key: str = json.loads(piece)
    path = (*frame.path, key)
    if path in lines:
        raise InvalidText(f"the key {key!r} stands twice", line=line, path=path)
    lines[path] = line
    return key
