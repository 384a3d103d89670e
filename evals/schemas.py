"""JSON Schema for `is-json`: draft-07, strict (an unknown keyword or format is an error), offline and bounded.

The `jsonschema` library applies the schema. Replaced are the keywords whose cost an author could blow up (patterns are
those of `evals/patterns.py`; enum and uniqueItems compare in linear time), and those that strict validators read
differently.
"""

from __future__ import annotations

import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Final

from jsonschema import Draft7Validator, ValidationError, validators
from msgspec import Struct
from referencing import Registry
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT7

from evals.errors import CannotJudge, InvalidAssertion
from evals.javascript import json_text
from evals.json_reader import InvalidText
from evals.patterns import Pattern, compile_pattern
from evals.schema_formats import FORMATS, NUMBER_FORMATS, TEXT_FORMATS
from evals.turns import Turns
from evals.types import JsonValue
from evals.yaml_reader import read_yaml

MAX_VALUES: Final = 10_000  # objects, lists and scalars of one schema
_MAX_DEPTH = 40
_CPU_SECONDS = 0.5  # of one validation
_SCRIPT_SECONDS = 1.0  # of all its patterns that re2 cannot run
_SHOWN_CHARACTERS = 200

_ONE = frozenset(("not", "if", "then", "else", "additionalItems", "contains", "propertyNames", "additionalProperties"))
_LIST = frozenset(("allOf", "anyOf", "oneOf"))
_MAP = frozenset(("properties", "patternProperties"))
_PLAIN = frozenset(
    (
        "$schema", "$id", "$ref", "$comment", "$defs", "definitions", "type", "nullable", "const", "enum",
        "format", "maximum", "minimum", "exclusiveMaximum", "exclusiveMinimum", "multipleOf", "maxLength",
        "minLength", "pattern", "maxProperties", "minProperties", "required", "maxItems", "minItems",
        "uniqueItems", "items", "dependencies", "title", "description", "default", "deprecated", "readOnly",
        "writeOnly", "examples", "contentMediaType", "contentEncoding",
    )
)  # fmt: skip
KEYWORDS: Final = _ONE | _LIST | _MAP | _PLAIN

_DRAFT_07 = "http://json-schema.org/draft-07/schema"


class Schema(Struct, frozen=True):
    """A schema that is ready to use. Made by `compile_schema`."""

    validator: Any  # jsonschema's classes are made at run time and have no static type
    is_linear: bool = True  # False when a pattern needs QuickJS: then `problem_with` may block for a second

    def problem_with(self, value: JsonValue) -> str | None:
        """What keeps the value from conforming, or None.

        Raises CannotJudge after half a second of CPU time, or a second of patterns that QuickJS runs.
        """
        token = _RUN.set(_Run())
        try:
            error = next(self.validator.iter_errors(value), None)
        except RecursionError:
            raise CannotJudge("the schema refers to itself without end, or the answer is nested too deeply") from None
        finally:
            _RUN.reset(token)
        return None if error is None else _sentence(error)


def compile_schema(value: JsonValue) -> Schema:
    """The schema in a JSON object or boolean, or in a text of JSON or YAML. Raises InvalidAssertion."""
    schema = _read_text(value) if isinstance(value, str) else value
    if not isinstance(schema, dict | bool):
        raise InvalidAssertion("a JSON schema must be an object")
    _require_size(schema)
    _require_valid(schema)
    if isinstance(schema, dict) and schema.get("$schema", _DRAFT_07) not in (_DRAFT_07, _DRAFT_07 + "#"):
        raise InvalidAssertion("the JSON schema names another dialect in $schema; draft-07 is the one that is read")
    resource = DRAFT7.create_resource(schema)
    base = resource.id() or ""
    try:
        resolver = Registry().with_resource(base, resource).resolver(base)
        inspection = _Inspection()
        inspection.inspect(schema, resolver=resolver, path="schema")
    except ValueError:
        raise InvalidAssertion("the JSON schema has an $id or $ref that is no address") from None
    return Schema(_Validator(schema, registry=Registry()), inspection.is_linear)


def _read_text(text: str) -> JsonValue:
    try:
        return read_yaml(text).value
    except InvalidText as error:
        raise InvalidAssertion(f"the JSON schema cannot be read as JSON or YAML: {error.message}") from None


def _require_size(schema: JsonValue) -> None:
    waiting: list[tuple[JsonValue, int]] = [(schema, 0)]
    count = 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if count > MAX_VALUES or depth > _MAX_DEPTH:
            raise InvalidAssertion(
                f"the JSON schema is too large; {MAX_VALUES:,} values, nested {_MAX_DEPTH} deep, are the most"
            )
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend((item, depth + 1) for item in inside)


def _require_valid(schema: JsonValue) -> None:
    problem = Schema(_Validator(Draft7Validator.META_SCHEMA)).problem_with(schema)
    if problem:
        raise InvalidAssertion(f"the JSON schema is not valid: {problem}")


class _Inspection:
    """Walks the parts of a schema that can be reached, and refuses what strict validators refuse."""

    def __init__(self) -> None:
        self.is_linear = True  # until a pattern is found that re2 cannot run
        self._seen: set[int] = set()

    def inspect(self, schema: JsonValue, *, resolver: Any, path: str) -> None:
        """Raises InvalidAssertion that names the path. `resolver` is `referencing`'s, typed as Any there too."""
        if not isinstance(schema, dict) or id(schema) in self._seen:
            return
        self._seen.add(id(schema))
        resolver = resolver.in_subresource(DRAFT7.create_resource(schema))
        _require_known_words(schema, path=path)
        _require_used_words(schema, path=path)
        self._inspect_patterns(schema, path=path)
        if "$ref" in schema:
            self._inspect_reference(schema["$ref"], resolver=resolver, path=path)
        for step, inner in _subschemas(schema):
            self.inspect(inner, resolver=resolver, path=f"{path}/{step}")

    def _inspect_patterns(self, schema: dict[str, JsonValue], *, path: str) -> None:
        try:
            patterns = [compile_pattern(source, unicode=True) for source in schema.get("patternProperties", {})]
            _require_apart(patterns, schema)
            if "pattern" in schema:
                patterns.append(compile_pattern(schema["pattern"], unicode=True))
        except InvalidAssertion as error:
            raise InvalidAssertion(f"{path}: {error.message}") from None
        self.is_linear = self.is_linear and all(pattern.is_linear for pattern in patterns)

    def _inspect_reference(self, reference: str, *, resolver: Any, path: str) -> None:
        try:
            found = resolver.lookup(reference)
        except Unresolvable:
            raise InvalidAssertion(
                f"{path}: $ref {reference[:_SHOWN_CHARACTERS]!r} is not in this schema; nothing is fetched, "
                "so copy it into `definitions`"
            ) from None
        self.inspect(found.contents, resolver=found.resolver, path=f"{path}/$ref")


def _require_apart(patterns: Iterable[Pattern], schema: dict[str, JsonValue]) -> None:
    """A property belongs to `properties` or to a pattern. Patterns that re2 cannot run are not asked while loading."""
    for pattern in patterns:
        for name in schema.get("properties", {}):
            if pattern.is_linear and pattern.search(name):
                raise InvalidAssertion(f"property {name[:50]!r} also matches the pattern {pattern.source[:50]!r}")


def _subschemas(schema: dict[str, JsonValue]) -> Iterator[tuple[str, JsonValue]]:
    for word, value in schema.items():
        if word in _ONE or (word == "items" and not isinstance(value, list)):
            yield word, value
        elif word in _LIST or word == "items":
            yield from ((f"{word}/{index}", inner) for index, inner in enumerate(value))
        elif word in _MAP or word == "dependencies":
            yield from ((f"{word}/{key}", inner) for key, inner in value.items())


def _require_known_words(schema: dict[str, JsonValue], *, path: str) -> None:
    for word in schema:
        if word not in KEYWORDS:
            close = difflib.get_close_matches(word[:50], KEYWORDS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InvalidAssertion(f"{path}: unknown keyword {word[:50]!r} of JSON schema (draft-07){hint}")
    name = schema.get("format")
    if name is not None and name not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise InvalidAssertion(f"{path}: unknown format {name[:50]!r}; known are {known}")


def _require_used_words(schema: dict[str, JsonValue], *, path: str) -> None:
    """A word that would be ignored is a mistake of the author's."""
    problem = None
    if ("then" in schema or "else" in schema) and "if" not in schema:
        problem = "`then` and `else` need an `if`"
    elif "if" in schema and "then" not in schema and "else" not in schema:
        problem = "`if` needs a `then` or an `else`"
    elif "additionalItems" in schema and not isinstance(schema.get("items"), list):
        problem = "`additionalItems` needs `items` that is a list of schemas"
    elif "nullable" in schema and "type" not in schema:
        problem = "`nullable` needs a `type`"
    elif schema.get("enum") == []:
        problem = "`enum` holds no value"
    elif isinstance(values := schema.get("enum"), list) and len(set(map(_fingerprint, values))) < len(values):
        problem = "`enum` holds a value twice"
    if problem:
        raise InvalidAssertion(f"{path}: {problem}")


# --- applying a schema


class _Run:
    """One validation: its time, and the values of each enum in a form that is quick to look up."""

    def __init__(self) -> None:
        self._ends = time.thread_time() + _CPU_SECONDS
        self._turns = Turns()
        self._script_seconds = _SCRIPT_SECONDS
        self._allowed: dict[int, frozenset[str]] = {}

    def step(self) -> None:
        """Raises CannotJudge when the time is used up."""
        if self._turns.step() > self._ends:
            raise CannotJudge("the schema takes too long on this answer; make it simpler")

    def matches(self, source: str, text: str) -> bool:
        """Whether the text has the pattern. Raises CannotJudge when the time for patterns is used up."""
        pattern = compile_pattern(source, unicode=True)
        if pattern.is_linear:
            return pattern.search(text)
        if self._script_seconds <= 0:
            raise CannotJudge("the patterns of the schema take too long on this answer; make them simpler")
        started = time.monotonic()
        try:
            return pattern.search(text, seconds=self._script_seconds)
        finally:
            self._script_seconds -= time.monotonic() - started

    def allowed(self, values: list[JsonValue]) -> frozenset[str]:
        known = self._allowed.get(id(values))
        if known is None:
            known = self._allowed[id(values)] = frozenset(map(_fingerprint, values))
        return known


_RUN: ContextVar[_Run] = ContextVar("_RUN")

# Any: jsonschema hands over whatever stands in a schema and in the answer.
Keyword = Callable[[Any, Any, Any, Any], Any]
Errors = Iterator[ValidationError]


def _fingerprint(value: JsonValue) -> str:
    """The same text for values that JSON Schema calls equal: 1 and 1.0, objects in any order."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json_text(key)}:{_fingerprint(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_fingerprint, value)) + "]"
    return json_text(value)


def _is_number(_: Any, value: JsonValue) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(checker: Any, value: JsonValue) -> bool:
    return _is_number(checker, value) and float(value).is_integer()


def _type(validator: Any, types: str | list[str], instance: JsonValue, schema: dict[str, JsonValue]) -> Errors:
    names = [types] if isinstance(types, str) else types
    if instance is None and schema.get("nullable") is True:
        return
    if not any(validator.is_type(instance, name) for name in names):
        yield ValidationError(f"must be {' or '.join(names)}")


def _enum(_: Any, values: list[JsonValue], instance: JsonValue, __: Any) -> Errors:
    if _fingerprint(instance) not in _RUN.get().allowed(values):
        yield ValidationError("is none of the allowed values")


def _const(_: Any, value: JsonValue, instance: JsonValue, __: Any) -> Errors:
    if _fingerprint(instance) != _fingerprint(value):
        yield ValidationError(f"must be {json_text(value)[:_SHOWN_CHARACTERS]}")


def _unique_items(validator: Any, wanted: bool, instance: JsonValue, _: Any) -> Errors:
    if wanted and validator.is_type(instance, "array") and len(set(map(_fingerprint, instance))) < len(instance):
        yield ValidationError("holds an item twice")


def _multiple_of(validator: Any, step: float, instance: JsonValue, _: Any) -> Errors:
    if not validator.is_type(instance, "number"):
        return
    quotient = float(instance) / float(step)
    # Plain division of doubles, as JavaScript validators do it: 0.3 is no multiple of 0.1.
    # From 1e21 on they read the quotient's text, which no longer spells an integer.
    if not math.isfinite(quotient) or abs(quotient) >= 1e21 or not quotient.is_integer():
        yield ValidationError(f"must be a multiple of {json_text(step)}")


def _pattern(validator: Any, source: str, instance: JsonValue, _: Any) -> Errors:
    if validator.is_type(instance, "string") and not _RUN.get().matches(source, instance):
        yield ValidationError(f"must match the pattern {source!r}")


def _pattern_properties(validator: Any, patterns: dict[str, JsonValue], instance: JsonValue, _: Any) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    for source, inner in patterns.items():
        for name, item in instance.items():
            if _RUN.get().matches(source, name):
                yield from validator.descend(item, inner, path=name, schema_path=source)


def _additional_properties(
    validator: Any, inner: JsonValue, instance: JsonValue, schema: dict[str, JsonValue]
) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    for name, item in instance.items():
        if name in schema.get("properties", {}):
            continue
        if any(_RUN.get().matches(source, name) for source in schema.get("patternProperties", {})):
            continue
        if inner is False:
            yield ValidationError(f"must not have the property {name[:_SHOWN_CHARACTERS]!r}")
        else:
            yield from validator.descend(item, inner, path=name)


def _format(validator: Any, name: str, instance: JsonValue, _: Any) -> Errors:
    if validator.is_type(instance, "string"):
        fits = name not in TEXT_FORMATS or TEXT_FORMATS[name](instance)
    else:
        fits = not validator.is_type(instance, "number") or name not in NUMBER_FORMATS or NUMBER_FORMATS[name](instance)
    if not fits:
        yield ValidationError(f"must have the format {name}")


def _in_time(keyword: Keyword) -> Keyword:
    def apply(validator: Any, value: Any, instance: Any, schema: Any) -> Errors:
        _RUN.get().step()
        yield from keyword(validator, value, instance, schema) or ()

    return apply


def _all_words(schema: Any) -> Any:
    """Every word counts, those beside a $ref too, unlike in draft-07's text: today's validators apply them."""
    return schema.items()


_KEYWORDS: dict[str, Keyword] = {
    **Draft7Validator.VALIDATORS,
    "type": _type,
    "enum": _enum,
    "const": _const,
    "uniqueItems": _unique_items,
    "multipleOf": _multiple_of,
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "format": _format,
}

_Validator: Any = validators.create(
    meta_schema=Draft7Validator.META_SCHEMA,
    validators={word: _in_time(keyword) for word, keyword in _KEYWORDS.items()},
    type_checker=Draft7Validator.TYPE_CHECKER.redefine_many({"number": _is_number, "integer": _is_integer}),
    applicable_validators=_all_words,
)


def _sentence(error: ValidationError) -> str:
    path = "".join(f"/{step}" for step in error.absolute_path)
    message = error.message
    if len(message) > _SHOWN_CHARACTERS:
        message = message[: _SHOWN_CHARACTERS - 3] + "..."
    return f"{path[:_SHOWN_CHARACTERS] or 'the value'}: {message}"
