"""Templates in suites: `{{ name }}` and friends, close to Nunjucks, without reach, in bounded time and size.

What a template may hold is listed; everything else (calls, imports, macros) is refused when it is read. Loops are
counted against a clock, and every text that grows is measured before it grows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any, Final

from jinja2 import ChainableUndefined, TemplateError, Undefined, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from evals.errors import InvalidSuite
from evals.javascript import json_text, text_of
from evals.types import JsonValue

MAX_TEMPLATE: Final = 200_000  # characters
MAX_RESULT: Final = 1_000_000  # characters, of the result and of any text on the way to it
_MAX_TOKENS = 15_000  # names, signs and pieces of text; they bound the time that reading takes
_SECONDS = 0.5
_MAX_NESTED_LOOPS = 3

# Jinja makes every line ending a line feed; a carriage return travels as this noncharacter.
_CARRIAGE_RETURN = "\ufdd0"
_CLOCK = "clock of this rendering"  # not a name that a template could write

_ALLOWED: tuple[type[nodes.Node], ...] = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem,
    nodes.Filter, nodes.Test, nodes.If, nodes.For, nodes.Assign, nodes.CondExpr, nodes.Compare, nodes.Operand,
    nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos, nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.Mod,
    nodes.FloorDiv, nodes.Concat, nodes.List, nodes.Tuple, nodes.Dict, nodes.Pair, nodes.Slice, nodes.Keyword,
)  # fmt: skip


def render(text: str, variables: Mapping[str, JsonValue]) -> str:
    """The text with its variables filled in. A variable that is not there is empty; nothing is escaped.

    Raises InvalidSuite for a template that cannot be read, or that needs more than half a second or a million
    characters.
    """
    if "{{" not in text and "{%" not in text and "{#" not in text:
        return text
    if len(text) > MAX_TEMPLATE:
        raise InvalidSuite(f"a template has {len(text):,} characters; {MAX_TEMPLATE:,} are the most")
    try:
        return _render(text.replace("\r", _CARRIAGE_RETURN), variables).replace(_CARRIAGE_RETURN, "\r")
    except _TooMuch as error:
        raise InvalidSuite(f"a template {error}") from None
    except TemplateError as error:
        raise InvalidSuite(f"a template cannot be used: {error.message}{_place(error)}") from None
    except (RecursionError, SyntaxError, MemoryError):
        # Python compiles what Jinja writes, and has limits of its own (a hundred blocks, for one).
        raise InvalidSuite("a template is nested too deeply") from None


def render_value(value: JsonValue, variables: Mapping[str, JsonValue]) -> JsonValue:
    """The value of an assertion with its templates filled in: a text, or the texts of a list.

    Objects (a JSON schema, say) are left as they are: their braces mean themselves. Raises InvalidSuite.
    """
    if isinstance(value, str):
        return render(value, variables)
    if isinstance(value, list):
        return [render(item, variables) if isinstance(item, str) else item for item in value]
    return value


def check_template(text: str) -> None:
    """Raises InvalidSuite for a template that cannot be read."""
    try:
        render(text, {})
    except InvalidSuite as error:
        raise InvalidSuite(error.message) from None


def _place(error: TemplateError) -> str:
    line = getattr(error, "lineno", None)
    return f" (line {line} of the template)" if line else ""


class _TooMuch(Exception):
    """The template wants more time or room than there is."""


class _Clock:
    """Ends a rendering that takes too long."""

    def __init__(self) -> None:
        self._ends = time.thread_time() + _SECONDS

    def check(self) -> None:
        if time.thread_time() > self._ends:
            raise _TooMuch(f"takes longer than {_SECONDS:g} seconds")


def _render(text: str, variables: Mapping[str, JsonValue]) -> str:
    _require_short(text)
    tree = _ENVIRONMENT.parse(text)
    _require_allowed(tree)
    template = _ENVIRONMENT.from_string(_guarded(tree))
    try:
        return _collect(template.generate({**variables, _CLOCK: _Clock()}))
    except (TypeError, ValueError, ArithmeticError, LookupError):
        # The values in the template do not go together ("a" - 1); Python's words would not help its author.
        raise InvalidSuite("a template calculates with values that do not fit together") from None


def _collect(pieces: Iterable[str]) -> str:
    collected: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        _require_room(size)
        collected.append(piece)
    return "".join(collected)


def _require_short(text: str) -> None:
    for count, _ in enumerate(_ENVIRONMENT.lexer.tokeniter(text, None)):
        if count > _MAX_TOKENS:
            raise _TooMuch(f"has more than {_MAX_TOKENS:,} names, signs and pieces")


def _require_allowed(tree: nodes.Template) -> None:
    waiting: list[tuple[nodes.Node, int]] = [(tree, 0)]
    while waiting:
        node, loops = waiting.pop()
        if not isinstance(node, _ALLOWED):
            raise _TooMuch(f"uses {type(node).__name__.lower()} (line {node.lineno}), which is not available here")
        if isinstance(node, nodes.For):
            loops += 1
            if node.recursive or loops > _MAX_NESTED_LOOPS:
                raise _TooMuch(f"nests more than {_MAX_NESTED_LOOPS} loops (line {node.lineno})")
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            known = ", ".join(sorted(_FILTERS))
            raise _TooMuch(f"uses the unknown filter {node.name!r} (line {node.lineno}); known are {known}")
        waiting.extend((child, loops) for child in node.iter_child_nodes())


def _guarded(tree: nodes.Template) -> nodes.Template:
    """The same template, its loops counted and its joined texts measured."""
    for loop in tree.find_all(nodes.For):
        loop.iter = nodes.Filter(loop.iter, _COUNTED, [], [], None, None, lineno=loop.lineno)
    for node in list(tree.find_all(nodes.Node)):
        for field, value in node.iter_fields():
            if isinstance(value, nodes.Concat):
                setattr(node, field, _measured(value))
            elif isinstance(value, list):
                value[:] = [_measured(item) if isinstance(item, nodes.Concat) else item for item in value]
    return tree


def _measured(node: nodes.Concat) -> nodes.Filter:
    parts = nodes.List(node.nodes, lineno=node.lineno)
    return nodes.Filter(parts, _JOINED, [], [], None, None, lineno=node.lineno)


def _shown(value: Any) -> Any:
    """How a value reads in the result: null is empty, numbers and truth as in JavaScript, objects as JSON."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return text_of(value)
    if isinstance(value, dict | list | tuple):
        return json_text(value)
    # What Jinja itself puts among the names (`self`, `loop`) has no text, and must not show a Python repr.
    return value if isinstance(value, str | Undefined) else ""


def _too_long() -> _TooMuch:
    return _TooMuch(f"makes a text of more than {MAX_RESULT:,} characters")


def _require_room(size: int) -> None:
    if size > MAX_RESULT:
        raise _too_long()


# --- filters


def _measuring(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def apply(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        if isinstance(result, str | list | tuple | dict):
            _require_room(len(result))
        return result

    return apply


def _text(value: Any) -> str:
    return str(_shown(value))


def _replace(value: Any, old: Any, new: Any) -> str:
    text, before, after = _text(value), _text(old), _text(new)
    count = text.count(before)
    _require_room(len(text) + count * max(0, len(after) - len(before)))
    return text.replace(before, after)


def _join(values: Any, separator: Any = "") -> str:
    parts, between = [_text(value) for value in _items(values)], _text(separator)
    _require_room(sum(map(len, parts)) + len(parts) * len(between))
    return between.join(parts)


def _items(values: Any) -> Iterable[Any]:
    return values if isinstance(values, str | list | tuple | dict) else ()


def _default(value: Any, instead: Any = "", also_falsy: bool = False) -> Any:
    missing = value is None or isinstance(value, ChainableUndefined)
    return instead if missing or (also_falsy and not value) else value


def _number(value: Any, kind: Callable[[float], float]) -> float:
    try:
        number = float(_text(value).strip()[:400])
    except ValueError:
        return 0
    return kind(number) if math.isfinite(number) else 0


def _capitalize(value: Any) -> str:
    text = _text(value).lower()
    return text[:1].upper() + text[1:]


def _truncate(value: Any, length: int = 255) -> str:
    text = _text(value)
    return text if len(text) <= length else text[: max(length, 0)] + "..."


def _ordered(values: Any) -> list[Any]:
    items = list(_items(values))
    return sorted(items, key=None if all(isinstance(item, int | float) for item in items) else _text)


_FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "abs": lambda value: abs(_number(value, float)),
    "capitalize": _capitalize,
    "default": _default,
    "d": _default,
    "dump": json_text,
    "first": lambda values: next(iter(_items(values)), None),
    "float": lambda value: _number(value, float),
    "int": lambda value: _number(value, int),
    "join": _join,
    "last": lambda values: next(iter(list(_items(values))[-1:]), None),
    "length": lambda values: len(values) if isinstance(values, str | list | tuple | dict) else 0,
    "lower": lambda value: _text(value).lower(),
    "replace": _replace,
    "reverse": lambda values: values[::-1] if isinstance(values, str | list | tuple) else "",
    "round": lambda value, digits=0: round(_number(value, float), max(0, min(int(digits), 15))),
    "safe": lambda value: value,
    "sort": _ordered,
    "string": _text,
    "title": lambda value: " ".join(map(_capitalize, _text(value).split(" "))),
    "tojson": json_text,
    "trim": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "upper": lambda value: _text(value).upper(),
}

# Names that a template cannot write, so that only `_guarded` calls them.
_COUNTED: Final = "counted loop"
_JOINED: Final = "joined text"


@pass_context
def _counted(context: Context, values: Any) -> Iterator[Any]:
    clock: _Clock = context[_CLOCK]
    for value in values if isinstance(values, str | list | tuple | dict) else ():
        clock.check()
        yield value


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with sums that cannot grow a text or list beyond measure."""

    intercepted_binops = frozenset(("+", "*", "%", "//", "/", "-"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "+" and isinstance(left, str) != isinstance(right, str):
            # JavaScript's plus makes text of both sides as soon as one is text.
            left, right = _text(left), _text(right)
        if operator == "+" and isinstance(left, Sequence) and isinstance(right, Sequence):
            _require_room(len(left) + len(right))
        elif not (_is_number(left) and _is_number(right)):
            raise TypeError(operator)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > 1024:
            raise ValueError(operator)
        return result

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A value's own field, or `length`; Python's attributes and methods are not there."""
        if isinstance(obj, LoopContext):
            return super().getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An object's field, or a list's or text's item; otherwise nothing."""
        if isinstance(obj, dict) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        if isinstance(obj, str | list | tuple):
            if argument == "length":
                return len(obj)
            if isinstance(argument, slice) or (isinstance(argument, int) and 0 <= argument < len(obj)):
                return obj[argument]
        return self.undefined(obj=obj, name=str(argument))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _environment() -> _Environment:
    environment = _Environment(
        autoescape=False, undefined=ChainableUndefined, keep_trailing_newline=True, finalize=_shown, cache_size=0
    )
    # Nothing that Jinja brings along (lipsum, range, cycler) is a variable's name here.
    environment.globals.clear()
    environment.filters.clear()
    environment.filters.update({name: _measuring(function) for name, function in _FILTERS.items()})
    environment.filters[_COUNTED] = _counted
    environment.filters[_JOINED] = _join
    return environment


_ENVIRONMENT = _environment()
