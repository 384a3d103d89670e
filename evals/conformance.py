"""`python -m evals.conformance FILE.jsonl [--types a,b]`: replay recorded verdicts, and print each that differs.

Three kinds of rows are known by their fields: one assertion (`type`), a whole case (`assert`, `expect_pass`) and a CSV
cell (`expected_column`). The last line counts the rows that match: `exact 123/123 parser 45/50 optional 6/6 quirk 7/9`.
A CSV cell that is refused on purpose, as promptfoo changes its meaning in silence, is shown and counted as a quirk.
Exit code 0 when every exact row matches, 1 when one does not, 2 when the file cannot be replayed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from evals.assertions import Answer
from evals.assertions._tool_calls import read_calls
from evals.errors import EngineError, InvalidAssertion
from evals.grading import NEGATION, SET_TYPE, Graded, find_assertion, grade
from evals.javascript import equal, json_text, parse_json, text_of
from evals.suites.cells import InvalidCell, read_cell
from evals.templates import render, render_value
from evals.types import Assertion, AssertionSet, Case, Completion, Guardrails, JsonValue

TIERS = ("exact", "parser", "optional", "quirk")
_TOLERANCE = 1e-9
_ASSERTION_FIELDS = frozenset(("type", "value", "threshold", "weight", "metric", "transform"))
_SET_FIELDS = frozenset(("type", "assert", "threshold", "weight", "metric"))

# A recorded row; its values are of any kind, as what was recorded may be wrong on purpose.
Row = dict[str, Any]


Read = TypeVar("Read", Assertion, AssertionSet)


class CannotReplay(EngineError):
    """The file is not one of recorded rows."""


class Outcome(Struct, frozen=True):
    """How one row went: `difference` says what was expected and what came, None when they are the same."""

    id: str
    tier: str
    difference: str | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code; prints to stdout, and to stderr when there is nothing to replay."""
    parser = argparse.ArgumentParser(prog="python -m evals.conformance", description="Replay recorded verdicts.")
    parser.add_argument("file", type=Path, help="recorded rows, one JSON object a line")
    parser.add_argument("--types", help="only these assertions, with commas between; a type covers its not- form")
    options = parser.parse_args(arguments)
    try:
        rows = read_rows(options.file)
        chosen = select(rows, types=options.types.split(",")) if options.types else rows
        outcomes = asyncio.run(replay(chosen, universe=rows))
    except CannotReplay as error:
        print(error.message, file=sys.stderr)
        return 2
    for outcome in outcomes:
        if outcome.difference:
            print(f"{outcome.id} ({outcome.tier}): {outcome.difference}")
    print(summary(outcomes))
    return 0 if all(o.difference is None for o in outcomes if o.tier == "exact") else 1


def read_rows(path: Path) -> list[Row]:
    """The rows of a file. Raises CannotReplay that names the file, and the line of a row that is none."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise CannotReplay(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CannotReplay(f"cannot read {path}: it is not UTF-8 text") from None
    rows = [_read_row(line, where=f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise CannotReplay(f"{path} holds no rows")
    return rows


def _read_row(line: str, *, where: str) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise CannotReplay(f"{where}: not a JSON object") from None
    if not isinstance(row, dict) or not isinstance(row.get("id"), str) or _replayer(row) is None:
        raise CannotReplay(
            f"{where}: not a recorded row; it needs an `id` and either `type`, `assert` with `expect_pass`, "
            "or `expected_column` with `assert`"
        )
    return row


def select(rows: Iterable[Row], *, types: Sequence[str]) -> list[Row]:
    """The rows that use nothing but the given types or their `not-` forms."""
    wanted = {type_.strip().removeprefix(NEGATION) for type_ in types}
    return [row for row in rows if {type_.removeprefix(NEGATION) for type_ in _types_of(row)} <= wanted]


def _types_of(row: Row) -> Iterator[str]:
    if "assert" not in row:
        yield str(row["type"])
    for item in row.get("assert") or ():
        if item.get("type") == SET_TYPE and "assert" in item:
            yield from _types_of(item)
        else:
            yield str(item.get("type"))


async def replay(rows: Sequence[Row], *, universe: Sequence[Row] | None = None) -> list[Outcome]:
    """The outcome of each row.

    An unknown type counts as differing, unless it has no verdict anywhere in the `universe` of rows: then it is a type
    that nobody knows, recorded to show the error.
    """
    judged = {type_ for row in universe or rows if not row.get("expect_error") for type_ in _types_of(row)}
    return [await _outcome(row, judged=judged) for row in rows]


async def _outcome(row: Row, *, judged: set[str]) -> Outcome:
    try:
        return Outcome(row["id"], _tier(row), await _difference(row, judged=judged))
    except _RefusedOnPurpose as refusal:
        return Outcome(row["id"], "quirk", _differs(expected=_expected(row), got=refusal.message))


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last line: for each tier how many of its rows match."""
    counts = []
    for tier in TIERS:
        same = [outcome.difference is None for outcome in outcomes if outcome.tier == tier]
        counts.append(f"{tier} {sum(same)}/{len(same)}")
    return " ".join(counts)


def _tier(row: Row) -> str:
    if row.get("quirk"):
        return "quirk"
    tier = row.get("tier", "exact")
    return tier if tier in TIERS else "exact"


async def _difference(row: Row, *, judged: set[str]) -> str | None:
    unknown = [type_ for type_ in _types_of(row) if _is_unknown(type_) and type_ in judged]
    replayer = _replayer(row)
    if unknown and "expected_column" not in row:
        return f"unknown type {unknown[0]}"
    try:
        return await replayer(row) if replayer else "not a recorded row"
    except _RefusedOnPurpose:
        raise
    except EngineError as error:
        if row.get("expect_error"):
            return None
        return _differs(expected=_expected(row), got=f"error: {error.message}")
    except (KeyError, TypeError, AttributeError) as error:
        return f"the row cannot be read: {error!r}"


def _is_unknown(type_: str) -> bool:
    try:
        find_assertion(type_)
    except InvalidAssertion:
        return True
    return False


def _replayer(row: Row) -> Callable[[Row], Any] | None:
    if "expected_column" in row and "assert" in row:
        return _replay_cell
    if "assert" in row and "expect_pass" in row:
        return _replay_case
    return _replay_assertion if "type" in row and "expect_pass" in row else None


# --- one assertion


async def _replay_assertion(row: Row) -> str | None:
    fields = {key: value for key, value in row.items() if key in _ASSERTION_FIELDS}
    graded = await _grade(row, [fields], threshold=None)
    if graded.error or not graded.assertions:
        got = f"error: {graded.error.message}" if graded.error else "no verdict"
        return None if row["expect_error"] else _differs(expected=_expected(row), got=got)
    result = graded.assertions[0]
    got = _verdict(result.passed, result.score)
    same = not row["expect_error"] and result.passed == row["expect_pass"] and _near(result.score, row["expect_score"])
    return None if same else _differs(expected=_expected(row), got=f"{got} ({result.reason})")


# --- a whole case


async def _replay_case(row: Row) -> str | None:
    graded = await _grade(row, row["assert"], threshold=row.get("threshold"))
    if graded.error:
        got = f"error: {graded.error.message}"
        return None if row["expect_error"] else _differs(expected=_expected(row), got=got)
    components = [result.passed for result in graded.assertions]
    named = row.get("expect_named_scores") or {}
    same = (
        not row["expect_error"]
        and (graded.state == "passed") == row["expect_pass"]
        and _near(graded.score, row["expect_score"])
        and components == row.get("expect_component_passes", components)
        and graded.named_scores.keys() == named.keys()
        and all(_near(score, named[metric]) for metric, score in graded.named_scores.items())
    )
    got = f"{_verdict(graded.state == 'passed', graded.score)} {graded.named_scores} {components}"
    return None if same else _differs(expected=_expected(row), got=got)


async def _grade(row: Row, items: Sequence[Row], *, threshold: float | None) -> Graded:
    variables = row.get("vars") or {}
    case = Case(
        title=row["id"],
        messages=(),
        assertions=tuple(_read_item(item, variables) for item in items),
        threshold=threshold,
        vars=variables,
    )
    output = row.get("output")
    text = output if isinstance(output, str) else json_text(output)
    answer = Answer(text=text, vars=variables, completion=_completion(row, text), is_text=isinstance(output, str))
    # The rows were recorded on their author's own machine, where code is run; here it still runs in a cage.
    return await grade(case, answer, None, allow_code=True)


def _read_item(item: Row, variables: dict[str, JsonValue]) -> Assertion | AssertionSet:
    if item.get("type") != SET_TYPE:
        return _read_assertion(item, variables)
    members = tuple(_read_assertion(member, variables) for member in item["assert"])
    return _read_fields(item, AssertionSet, variables, known=_SET_FIELDS, assertions=members)


def _read_assertion(item: Row, variables: dict[str, JsonValue]) -> Assertion:
    value = {"value": render_value(item["value"], variables)} if "value" in item else {}
    return _read_fields(item, Assertion, variables, known=_ASSERTION_FIELDS, type=item["type"], **value)


def _read_fields(
    item: Row, kind: type[Read], variables: dict[str, JsonValue], *, known: frozenset[str], **given: JsonValue
) -> Read:
    """The assertion or set with its metric rendered. Raises InvalidAssertion for a field that is unknown or odd."""
    _refuse_other_fields(item, known=known)
    metric = item.get("metric")
    fields = {
        **({"transform": item["transform"]} if "transform" in item else {}),
        "threshold": item.get("threshold"),
        "weight": item.get("weight", 1.0),
        "metric": render(metric, variables) if isinstance(metric, str) else metric,
    }
    try:
        return msgspec.convert({**fields, **given}, kind)
    except msgspec.ValidationError as error:
        raise InvalidAssertion(f"{item.get('type')}: {error}") from None


def _refuse_other_fields(item: Row, *, known: frozenset[str]) -> None:
    for field in item:
        if field not in known:
            raise InvalidAssertion(f"{item.get('type')}: the field `{field}` is not known")


def _completion(row: Row, text: str) -> Completion | None:
    """What the provider reported; None when it reported nothing, as then no latency is known either."""
    # What is recorded as a value was reported as one: a text that spells tool calls is none.
    tool_calls = () if isinstance(row.get("output"), str) else read_calls(row.get("output"))
    if not tool_calls and not any(key.startswith("provider_") for key in row):
        return None
    logprobs = row.get("provider_logprobs")
    return Completion(
        text=text,
        answered_by="recorded",
        # Whole milliseconds here, fractions there: rounded up, so that none slips below a limit.
        duration_ms=math.ceil(row.get("provider_latency_ms") or 0),
        finish_reason=row.get("provider_finish_reason"),
        cost_usd=row.get("provider_cost"),
        logprobs=tuple(logprobs) if logprobs is not None else None,
        tool_calls=tool_calls,
        tools=tuple(row.get("provider_tools") or ()),
        guardrails=_guardrails(row.get("provider_guardrails")),
    )


def _guardrails(reported: Row | None) -> Guardrails | None:
    if reported is None:
        return None
    return Guardrails(
        flagged=bool(reported.get("flagged")),
        flagged_input=bool(reported.get("flaggedInput")),
        flagged_output=bool(reported.get("flaggedOutput")),
        reason=str(reported.get("reason") or ""),
    )


# --- a CSV cell


async def _replay_cell(row: Row) -> str | None:
    try:
        read = [read_cell(row["expected_column"])]
    except InvalidCell as error:
        raise _RefusedOnPurpose(f"refused on purpose: {error.message}") from None
    same = equal(_plain(read), _plain(row["assert"]))
    return None if same else _differs(expected=_expected(row), got=json_text(read))


class _RefusedOnPurpose(EngineError):
    """docs/suite-format.md says which cells, and why."""


def _plain(value: JsonValue) -> JsonValue:
    """The value as JSON has it: a whole number is a whole number, however it is written."""
    return parse_json(json_text(value))


# --- words


def _expected(row: Row) -> str:
    if row.get("expect_error"):
        return "an error"
    if "expect_pass" not in row:
        return json_text(row["assert"])
    named = f" {row['expect_named_scores']}" if row.get("expect_named_scores") else ""
    components = f" {row['expect_component_passes']}" if "expect_component_passes" in row else ""
    return _verdict(row["expect_pass"], row["expect_score"]) + named + components


def _verdict(passed: bool, score: float | None) -> str:
    return f"{'pass' if passed else 'fail'} {text_of(score)}"


def _differs(*, expected: str, got: str) -> str:
    return f"expected {expected}, got {got}"


def _near(left: float, right: float | None) -> bool:
    return right is not None and abs(left - right) <= _TOLERANCE


if __name__ == "__main__":
    sys.exit(main())
