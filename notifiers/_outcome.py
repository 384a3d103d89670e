"""The outcome's public JSON, read into frozen dataclasses. `outcome.schema.json` is the same in words for others.

Fields that we do not know are ignored, and those that an older service leaves out are None, so that Action and service
need not be of one version. A test holds these classes, the schema and the engine's Structs equal.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

DEEPEST = 12  # far more than any outcome has
Kind = TypeVar("Kind")


class InvalidOutcome(ValueError):
    """The JSON is no outcome; the message names the place and what is expected there."""


@dataclass(frozen=True, kw_only=True)
class AssertionResult:
    """What one assertion said."""

    type: str
    passed: bool
    score: float
    reason: str
    weight: float = 1.0
    metric: str | None = None
    turn: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrialError:
    """Why a trial has no verdict."""

    kind: str
    message: str


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One call of one deployment."""

    deployment: str
    duration_ms: int
    error: str | None = None
    status: int | None = None
    timed_out: bool = False


@dataclass(frozen=True, kw_only=True)
class CacheUse:
    """What a cache did for one answer: hit, miss or bypass."""

    state: str
    reason: str
    saved_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Passed trials out of all with a verdict; the true rate lies between `low` and `high` with 95 % confidence."""

    passed: int
    total: int
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row against its baseline. `status`: regressed, fixed, flaky, stable, not_enough_data."""

    status: str
    rule: str
    baseline: Rate | None = None
    reruns: Rate | None = None
    effect: float | None = None
    p_value: float | None = None


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One call of a tool; `arguments` is the JSON text that the model wrote."""

    name: str
    arguments: str
    failed: bool = False
    refused: bool = False


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial of a row that has several."""

    state: str
    score: float
    response: str
    duration_ms: int
    assertions: tuple[AssertionResult, ...] = ()
    error: TrialError | None = None
    answered_by: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    attempts: tuple[Attempt, ...] = ()
    cache: CacheUse | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    turns: int | None = None
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case on one model."""

    title: str
    passed: bool
    score: float
    response: str
    model: str
    duration_ms: int
    assertions: tuple[AssertionResult, ...]
    state: str
    error: TrialError | None = None
    answered_by: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    named_scores: Mapping[str, float] | None = None
    attempts: tuple[Attempt, ...] | None = None
    trials: tuple[TrialResult, ...] | None = None
    case_digest: str | None = None
    pass_rate: Rate | None = None
    stopped_early: bool | None = None
    quarantined: bool | None = None
    change: Change | None = None
    reruns: tuple[TrialResult, ...] | None = None
    cache: CacheUse | None = None
    tool_calls: tuple[ToolCall, ...] | None = None
    turns: int | None = None
    earlier: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the judges agreed with themselves when some verdicts were asked for again."""

    share: float
    n: int
    tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the rows add up to."""

    total_tests: int
    tests_passed: int
    tests_failed: int
    overall_score: float
    total_duration_ms: int
    total_tokens: int
    total_cost_usd: float
    tests_errored: int
    tests_skipped: int
    conclusion: str
    cost_is_partial: bool | None = None
    stopped_by: str | None = None
    notes: tuple[str, ...] | None = None
    judge_agreement: Agreement | None = None
    derived_metrics: Mapping[str, Mapping[str, float]] | None = None
    test_result_id: str | None = None
    trials_cached: int | None = None
    cached: bool | None = None
    cached_at: str | None = None
    by_model: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class RowKey:
    """Names a row across runs."""

    title: str
    model: str
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class ChangeCounts:
    """How many rows have which status."""

    regressed: int
    fixed: int
    flaky: int
    stable: int
    not_enough_data: int


@dataclass(frozen=True, kw_only=True)
class CaseChange:
    """A case of the baseline's suite that this run does not have as it was. `change`: removed or changed."""

    title: str
    change: str
    reason: str
    gates: bool
    number: int = 0


@dataclass(frozen=True, kw_only=True)
class BaselineSource:
    """Which past a service compared with. `kind`: branch, version, job or snapshot. Times: 2026-01-02T03:04:05.678Z."""

    kind: str
    name: str
    jobs: int
    oldest_at: str | None = None
    newest_at: str | None = None
    snapshot: str | None = None


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What decided the conclusion. `decided_by`: regressions, failures, both, cases, min_score or never."""

    asked: str
    decided_by: str
    reasons: tuple[str, ...]
    min_score: float | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The run against its baseline. `rule`: regressions, failures or both."""

    rule: str
    rows: ChangeCounts
    baseline_trials: int
    rerun_trials: int
    base_trials: int | None = None
    removed: tuple[RowKey, ...] = ()
    changed: tuple[RowKey, ...] = ()
    cases: tuple[CaseChange, ...] = ()
    source: BaselineSource | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Every row and what they add up to. Of `provenance` and `record` nothing is told: they stay as they come."""

    test_cases: tuple[Row, ...]
    summary: Summary
    engine_version: str
    comparison: Comparison | None = None
    gate: Gate | None = None
    provenance: Mapping[str, Any] | None = None
    record: Mapping[str, Any] | None = None


def read_outcome(document: bytes | str | Mapping[str, Any]) -> Outcome:
    """The outcome that this JSON holds. Raises InvalidOutcome."""
    if isinstance(document, (bytes, str)):
        try:
            document = json.loads(document)
        except (ValueError, RecursionError):
            raise InvalidOutcome(
                "This is no JSON. Give the outcome that `prpm test --json` or the API wrote."
            ) from None
    return _read_struct(Outcome, document, "outcome", depth=0)


def _read_struct(kind: type[Kind], value: object, path: str, *, depth: int) -> Kind:
    if not isinstance(value, Mapping) or depth > DEEPEST:
        raise InvalidOutcome(f"{path}: an object is expected")
    found = {}
    described: Any = kind  # a type variable counts as unhashable for mypy
    for name, hint, is_required in _fields_of(described):
        if value.get(name) is not None:
            found[name] = _read(hint, value[name], f"{path}.{name}", depth=depth + 1)
        elif is_required:
            raise InvalidOutcome(f"{path}.{name} is missing")
    return kind(**found)


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type and whether it is required, of each field."""
    hints = get_type_hints(kind)
    return tuple(
        (one.name, _without_none(hints[one.name]), one.default is dataclasses.MISSING)
        for one in dataclasses.fields(kind)
    )


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not type(None))
    return hint


def _read(hint: Any, value: object, path: str, *, depth: int) -> Any:
    if dataclasses.is_dataclass(hint):
        return _read_struct(hint, value, path, depth=depth)  # type: ignore[arg-type]  # a class, never an instance
    origin = get_origin(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise InvalidOutcome(f"{path}: a list is expected")
        inner = get_args(hint)[0]
        return tuple(_read(inner, item, f"{path}[{place}]", depth=depth + 1) for place, item in enumerate(value))
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise InvalidOutcome(f"{path}: an object is expected")
        inner = get_args(hint)[1]
        return {
            str(name): _read(inner, item, f"{path}.{str(name)[:40]}", depth=depth + 1) for name, item in value.items()
        }
    return value if hint is Any else _read_plain(hint, value, path)


_PLAIN = {str: ("text", (str,)), bool: ("true or false", (bool,)), int: ("a whole number", (int,)),
          float: ("a number", (int, float))}  # fmt: skip


def _read_plain(hint: Any, value: object, path: str) -> Any:
    word, accepted = _PLAIN[hint]
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise InvalidOutcome(f"{path}: {word} is expected")
    try:
        number_or_text = hint(value)
    except OverflowError:
        raise InvalidOutcome(f"{path}: {word} of usual size is expected") from None
    if hint is float and not math.isfinite(number_or_text):
        raise InvalidOutcome(f"{path}: {word} is expected, not {number_or_text}")
    return number_or_text
