"""Tests as a suite writes them -> a flat list: from files, from CSV rows, and scenarios times their tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from msgspec import Struct

from evals.json_reader import InvalidText, Path, read_json
from evals.suites.fields import Fields
from evals.suites.findings import Findings, InFile, shown
from evals.suites.sources import CODE_ENDINGS, SCHEME, Sources, is_reference
from evals.suites.tables import read_table
from evals.types import JsonValue

MAX_CASES: Final = 2_000
SCENARIO_KEYS: Final = ("description", "config", "tests")
_MAX_FILE_DEPTH = 4  # a list of tests may name files that name files
_MAX_FILES = 1_000  # read in all, however often the same one

_MAY_BE_A_FILE = (".csv", ".json", ".jsonl", ".yaml", ".yml", ".xlsx", ".xls")


class Written(Struct, frozen=True):
    """One test as written, still with lists of values among its vars.

    `asserts` are the `assert` lists that count for it, each with its path, as a scenario adds its own.
    """

    value: dict[str, Any]
    path: Path
    asserts: tuple[tuple[JsonValue, Path], ...]


class Expansion:
    """Gathers the tests of a suite, `MAX_CASES` at most."""

    def __init__(self, fields: Fields, findings: Findings, sources: Sources) -> None:
        self._fields = fields
        self._findings = findings
        self._sources = sources
        self._files_read = 0

    def tests(self, value: JsonValue, path: Path) -> list[Written]:
        """The suite's `tests`."""
        return [
            Written(item, at, ((item.get("assert"), (*at, "assert")),))
            for item, at in self._objects(value, path, depth=0)
        ]

    def scenarios(self, value: JsonValue, path: Path) -> list[Written]:
        """Each set of vars of each scenario, with each of the scenario's tests."""
        if value is None:
            return []
        if not isinstance(value, list):
            self._fields.find(path, "must be a list of objects {config, tests}")
            return []
        found: list[Written] = []
        for scenario, at in self._objects(value, path, depth=0):
            self._fields.keys(scenario, at, SCENARIO_KEYS)
            sets = self._objects(scenario.get("config"), (*at, "config"), depth=0)
            tests = self._objects(scenario["tests"], (*at, "tests"), depth=0) if "tests" in scenario else [({}, at)]
            if self._is_too_many(len(found) + len(sets) * len(tests), at):
                return found
            found.extend(_merged(own, its_path, test, path) for own, its_path in sets for test, path in tests)
        return found

    def _is_too_many(self, number: int, path: Path) -> bool:
        if number > MAX_CASES:
            self._fields.find(path, f"has {number:,} test cases; {MAX_CASES:,} are the most")
        return number > MAX_CASES

    def _objects(self, value: JsonValue, path: Path, *, depth: int) -> list[tuple[dict[str, Any], Path]]:
        """The objects of a list, those of the files that it names included."""
        found: list[tuple[dict[str, Any], Path]] = []
        for item, at in self._items(value, path):
            if isinstance(item, dict) and not _names_a_file(item):
                found.append((item, at))
            elif reference := self._reference(item, at):
                found.extend(self._from_files(reference, at, depth=depth))
            if self._is_too_many(len(found), path):
                return []
        return found

    def _items(self, value: JsonValue, path: Path) -> Sequence[tuple[JsonValue, Path]]:
        if isinstance(value, str) or (isinstance(value, dict) and _names_a_file(value)):
            return [(value, path)]
        if not isinstance(value, list) or not value:
            self._fields.find(path, "must be a list of at least one test case")
            return []
        if self._is_too_many(len(value), path):
            return []
        return [(item, (*path, index)) for index, item in enumerate(value)]

    def _reference(self, item: JsonValue, path: Path) -> str | None:
        """The `file://...` that stands for tests; None after a finding."""
        if isinstance(item, dict):
            self._fields.keys(item, path, ("path",))
            item = item["path"]
        if not isinstance(item, str):
            self._fields.expect(item, path, "must be an object with `input` and `assert`")
            return None
        if is_reference(item):
            return item
        if item.lower().endswith(_MAY_BE_A_FILE) and "://" not in item and "\n" not in item:
            if self._sources.holds(item):
                return f"{SCHEME}{item}"
            self._fields.find(path, f"looks like the name of a file; write file://{shown(item)}")
        elif ":" not in item:
            self._fields.expect(item, path, "must be an object with `input` and `assert`")
        else:
            self._fields.find(
                path, "tests from addresses, services and programs are not supported; write the list here"
            )
        return None

    def _from_files(self, reference: str, path: Path, *, depth: int) -> Iterator[tuple[dict[str, Any], Path]]:
        if depth >= _MAX_FILE_DEPTH:
            self._fields.find(path, f"{shown(reference)}: files name files more than {_MAX_FILE_DEPTH} deep")
            return
        for name in self._sources.resolve(reference, path):
            self._files_read += 1
            if self._files_read > _MAX_FILES:
                # A file that names itself, or a few that name each other, would go on for hours.
                self._fields.find(path, f"names files that name files, more than {_MAX_FILES:,} in all")
                return
            yield from self._from_file(name, path, depth=depth)

    def _from_file(self, name: str, path: Path, *, depth: int) -> list[tuple[dict[str, Any], Path]]:
        lower = name.lower()
        if lower.endswith(".csv"):
            text = self._sources.text(name, path)
            rows = read_table(text, file=name, path=path, findings=self._findings, most=MAX_CASES)
            return [(row.test, row.path) for row in rows]
        if lower.endswith(".jsonl"):
            return self._from_lines(name, path)
        if lower.endswith((".json", ".yaml", ".yml")):
            place = self._sources.value(name, path)
            value = place.value
            if isinstance(value, dict) and not _names_a_file(value):
                return [(value, place.path)]
            return [] if value is None and self._findings.wrong else self._objects(value, place.path, depth=depth + 1)
        what = "runs code" if lower.endswith(CODE_ENDINGS) else "cannot be read here"
        self._fields.find(path, f"{shown(name)} {what}; tests come from YAML, JSON, JSONL and CSV files")
        return []

    def _from_lines(self, name: str, path: Path) -> list[tuple[dict[str, Any], Path]]:
        found: list[tuple[dict[str, Any], Path]] = []
        for number, line in enumerate(self._sources.text(name, path).split("\n"), 1):
            at: Path = (*path, InFile(name), f"line {number}")
            if not line.strip():
                continue
            if self._is_too_many(len(found) + 1, path):
                return []
            try:
                value = read_json(line).value
            except InvalidText as error:
                self._fields.find(at, error.message)
                continue
            if isinstance(value, dict):
                found.append((value, at))
            else:
                self._fields.expect(value, at, "must be an object")
        return found


def _names_a_file(item: dict[str, Any]) -> bool:
    return "path" in item and "assert" not in item and "vars" not in item


def _merged(own: dict[str, Any], own_path: Path, test: dict[str, Any], path: Path) -> Written:
    """A scenario's set of vars with one of its tests; the test's words win, and all assertions count."""
    value = {**own, **test}
    for key in ("vars", "options"):
        if isinstance(own.get(key), dict) and isinstance(test.get(key), dict):
            value[key] = {**own[key], **test[key]}
    asserts = ((own.get("assert"), (*own_path, "assert")), (test.get("assert"), (*path, "assert")))
    return Written(value, path if test else own_path, asserts)
