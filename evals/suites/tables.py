"""CSV files of tests: a row is a test, a column is a variable, and the columns `__...` say what is expected.

https://www.promptfoo.dev/docs/configuration/test-cases/#csv-format. Rows are counted as spreadsheets count them: the
header is row 1.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from evals.javascript import strip
from evals.json_reader import Document, Path
from evals.suites.cells import InvalidCell, read_cell
from evals.suites.findings import Findings, InFile, shown
from evals.types import JsonValue

MAX_COLUMNS: Final = 200

_EXPECTED = re.compile(r"__expected(?P<number>[1-9][0-9]{0,2})?")
_CONFIG = re.compile(r"__config:__expected(?P<number>[1-9][0-9]{0,2})?:(?P<key>\w+)")
_METADATA = re.compile(r"__metadata:.+")
_TEXTS = {"__description": "description", "__metric": "metric", "__prefix": "prefix", "__suffix": "suffix"}
_KNOWN = (
    "__expected, __expected1 ..., __prefix, __suffix, __description, __metric, __threshold, __metadata:key, "
    "__config:__expected1:threshold"
)


class Row(Struct, frozen=True):
    """One test as a suite would write it, and its path."""

    test: dict[str, JsonValue]
    path: Path


def read_table(text: str, *, file: str, path: Path, findings: Findings, most: int) -> list[Row]:
    """The tests of a CSV file, at most `most`; what is wrong becomes findings with file, line and row."""
    inside = (*path, InFile(file))
    lines: dict[Path, int] = {(): 1}
    findings.add_document(Document(None, lines), file=file)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] | None = None
    try:
        for number, line, cells in _records(reader):
            place = (*inside, f"row {number}")
            lines[(f"row {number}",)] = line
            if header is None:
                header = _header(cells, place, findings)
                if header is None:
                    break
            elif len(rows) >= most:
                findings.find(inside, f"has more than {most:,} rows")
                break
            else:
                rows.append(Row(_Row(header, cells, place, findings).test(), place))
    except csv.Error as error:
        lines[("row",)] = reader.line_num
        findings.find((*inside, "row"), f"not CSV: {error}")
    if header is None and not findings.wrong:
        findings.find(inside, "is empty; its first row must name the columns")
    return rows


def _records(reader: Any) -> Iterator[tuple[int, int, list[str]]]:
    """Number, first line and cells of each row that is not blank."""
    line = 1
    for number, cells in enumerate(reader, 1):
        if any(cells):
            yield number, line, cells
        line = reader.line_num + 1


def _header(cells: list[str], path: Path, findings: Findings) -> list[str] | None:
    """The columns' names; None after a finding."""
    names = [strip(cell) for cell in cells]
    wrong = len(findings.wrong)
    if len(names) > MAX_COLUMNS:
        findings.find(path, f"has {len(names):,} columns; {MAX_COLUMNS} are the most")
    for index, name in enumerate(names):
        if not name:
            findings.find(path, f"column {index + 1} has no name")
        elif name in names[:index]:
            findings.find(path, f"the column {shown(name)} stands twice")
        elif problem := _problem_with_column(name):
            findings.find(path, f"the column {shown(name)} {problem}")
    return None if len(findings.wrong) > wrong else names


def _problem_with_column(name: str) -> str | None:
    if name == "__providerOutput":
        return "is not supported; answers come from models here"
    config = _CONFIG.fullmatch(name)
    if config and config["key"] != "threshold":
        return "is not known; `threshold` is the one key that can be set"
    known = config or _EXPECTED.fullmatch(name) or _METADATA.fullmatch(name) or name in (*_TEXTS, "__threshold")
    return f"is not known; known are {_KNOWN}" if name.startswith("__") and not known else None


class _Row:
    """One row on its way to a test."""

    def __init__(self, header: list[str], cells: list[str], path: Path, findings: Findings) -> None:
        self._findings = findings
        self._path = path
        if len(cells) != len(header):
            findings.find(path, f"has {len(cells)} cells, but there are {len(header)} columns; quote cells with commas")
        self._cells = dict(zip(header, cells, strict=False))

    def test(self) -> dict[str, JsonValue]:
        """The test that the row stands for."""
        texts = {key: strip(self._cells.get(column, "")) for column, key in _TEXTS.items()}
        assertions = self._assertions(metric=texts["metric"])
        options = {key: self._cells[f"__{key}"] for key in ("prefix", "suffix") if self._cells.get(f"__{key}")}
        test: dict[str, JsonValue] = {
            "vars": {name: cell for name, cell in self._cells.items() if not name.startswith("__")}
        }
        if texts["description"]:
            test["description"] = texts["description"]
        if options:
            test["options"] = options
        if assertions:
            test["assert"] = assertions
        if (threshold := self._number("__threshold")) is not None:
            test["threshold"] = threshold
        if any(_METADATA.fullmatch(column) for column in self._cells):
            self._findings.note("`__metadata:` columns are ignored: metadata is not used.")
        return test

    def _assertions(self, *, metric: str) -> list[dict[str, JsonValue]]:
        assertions: dict[str, dict[str, JsonValue]] = {}
        for column, cell in self._cells.items():
            expected = _EXPECTED.fullmatch(column)
            if expected and strip(cell):
                try:
                    assertions[expected["number"] or "1"] = read_cell(cell)
                except InvalidCell as error:
                    self._findings.find((*self._path, column), error.message)
        self._configure(assertions)
        for assertion in assertions.values():
            if metric:
                assertion["metric"] = metric
        return list(assertions.values())

    def _configure(self, assertions: dict[str, dict[str, JsonValue]]) -> None:
        for column in self._cells:
            config = _CONFIG.fullmatch(column)
            number = self._number(column) if config else None
            if config is None or number is None:
                continue
            if (name := config["number"] or "1") in assertions:
                assertions[name]["threshold"] = number
            else:
                self._findings.find((*self._path, column), "there is nothing expected that it could belong to")

    def _number(self, column: str) -> float | None:
        cell = strip(self._cells.get(column, ""))
        if not cell:
            return None
        try:
            number = float(cell)
        except ValueError:
            number = float("nan")
        if not 0 <= number < float("inf"):
            self._findings.find((*self._path, column), f"{shown(cell)} is not a number of at least 0")
            return None
        return number
