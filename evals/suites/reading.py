"""The way from a text to a Suite: decode, gather the tests, make the cases, or say what is wrong."""

from __future__ import annotations

from typing import Any, Final, cast, get_args

import msgspec
from msgspec import Struct

from evals.derived import InvalidFormula, check_formula
from evals.json_reader import MAX_BYTES, Document, InvalidText, Path, read_json, require_plain
from evals.suites.assertions import Assertions
from evals.suites.cases import Cases
from evals.suites.expansion import Expansion, Written
from evals.suites.fields import Fields
from evals.suites.finding import FoundSuite
from evals.suites.findings import Findings
from evals.suites.judges import Judges, Judging
from evals.suites.prompts import Prompts
from evals.suites.providers import read_providers
from evals.suites.rendering import Renderer
from evals.suites.sources import Sources
from evals.types import DerivedMetric, Framework, JsonValue, Suite
from evals.yaml_reader import read_yaml

SUITE_KEYS: Final = (
    "description", "tests", "defaultTest", "temperature", "max_tokens", "judge", "cache", "framework", "prompts",
    "scenarios", "assertionTemplates", "derivedMetrics", "evaluateOptions", "providers", "targets",
    "generated_by",
)  # fmt: skip
MAX_DERIVED_METRICS: Final = 100

# promptfoo's words that do not change what a test means here; a note names them.
_IGNORED = {
    "outputPath": "reports are chosen when the suite is run",
    "sharing": "sharing is chosen when the suite is run",
    "commandLineOptions": "options are given when the suite is run",
    "tags": "tags are not used",
    "metadata": "metadata is not used",
    "$schema": "the schema is known",
}
_IGNORED_OPTIONS = dict.fromkeys(
    (
        "maxConcurrency", "delay", "cache", "timeoutMs", "maxEvalTimeMs", "showProgressBar", "generateSuggestions",
        "interactiveProviders", "verbose",
    ),
    "how fast a suite runs is decided by who runs it",
)  # fmt: skip
_DEFAULT_MAX_TOKENS = Suite(cases=()).max_tokens


class ReadSuite(Struct, frozen=True):
    """A parsed suite, sentences for its author about what was not used, and the models that it would like."""

    suite: Suite
    notes: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


def read_suite(found: FoundSuite, *, allow_code: bool = False) -> ReadSuite:
    """The suite that was found. `allow_code` takes assertions that run its author's code. Raises InvalidSuite."""
    document = _read_text(found.text, found.path)
    return _read_document(document, found, root=_pointed(document, found), allow_code=allow_code)


def parse_suite(text: bytes | str, *, path: str) -> Suite:
    """A suite from YAML or JSON, by the extension of `path`, else by trying. Raises InvalidSuite."""
    return _read_document(_read_text(text, path), FoundSuite(path, b"")).suite


def parse_suite_value(value: JsonValue, *, path: str) -> Suite:
    """A suite from an already decoded JSON value. Raises InvalidSuite."""
    document = Document(value, {})
    findings = Findings(document, file=path)
    try:
        require_plain(document)
        if len(msgspec.json.encode(value)) > MAX_BYTES:
            findings.find((), f"larger than {MAX_BYTES:,} bytes")
    except InvalidText as error:
        findings.find(error.path, error.message)
    if findings.wrong:
        raise findings.error()
    return _read_document(document, FoundSuite(path, b"")).suite


def _read_text(text: bytes | str, path: str) -> Document:
    lower = path.lower()
    try:
        if lower.endswith(".json"):
            return read_json(text)
        if lower.endswith((".yaml", ".yml")):
            return read_yaml(text)
        return _read_either(text)
    except InvalidText as error:
        findings = Findings(Document(None, {error.path: error.line} if error.line else {}), file=path)
        findings.find(error.path, error.message)
        raise findings.error() from None


def _read_either(text: bytes | str) -> Document:
    try:
        return read_json(text)
    except InvalidText:
        return read_yaml(text)


def _pointed(document: Document, found: FoundSuite) -> Path:
    """The pointer as a path. Raises InvalidSuite if nothing is there."""
    path: Path = ()
    value = document.value
    for part in (found.json_pointer or "").split("/")[1:]:
        step: str | int = int(part) if isinstance(value, list) and part.isdigit() else part
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            findings = Findings(document, file=found.path)
            findings.find(path, f"has no {part}")
            raise findings.error() from None
        path = (*path, step)
    return path


def _read_document(document: Document, found: FoundSuite, *, root: Path = (), allow_code: bool = False) -> ReadSuite:
    value = document.value
    for step in root:
        value = value[step]
    findings = Findings(document, file=found.path)
    reader = _Reader(findings, found, allow_code=allow_code)
    suite = reader.read_suite(value, root)
    if suite is None or findings.wrong:
        raise findings.error()
    return ReadSuite(suite, tuple(findings.notes), reader.models)


class _Reader:
    """Walks a decoded suite from the outside in; what it returns counts only if there are no findings."""

    def __init__(self, findings: Findings, found: FoundSuite, *, allow_code: bool) -> None:
        self.models: tuple[str, ...] = ()
        self._findings = findings
        self._fields = Fields(findings)
        sources = Sources(found.files, suite_path=found.path, findings=findings)
        renderer = Renderer(findings)
        self._judges = Judges(self._fields)
        self._prompts = Prompts(self._fields, sources, renderer)
        self._assertions = Assertions(self._fields, sources, renderer, allow_code=allow_code)
        self._expansion = Expansion(self._fields, findings, sources)
        self._cases = Cases(
            self._fields, findings, sources, renderer, prompts=self._prompts, assertions=self._assertions
        )

    def read_suite(self, value: JsonValue, path: Path) -> Suite | None:
        """The suite; None if the value cannot be one."""
        path_of_tests = path if isinstance(value, list) else (*path, "tests")
        if isinstance(value, list):
            value = {"tests": value}
        if not isinstance(value, dict):
            self._fields.find(path, "must hold `tests`, a list of test cases")
            return None
        self._fields.keys(value, path, SUITE_KEYS, ignored=_IGNORED)
        self._read_providers(value, path)
        self._assertions.know_templates(value.get("assertionTemplates"), (*path, "assertionTemplates"))
        judging = self._judges.read(value.get("judge"), (*path, "judge"))
        defaults = self._cases.read_defaults(
            value.get("defaultTest"),
            (*path, "defaultTest"),
            prompts=self._prompts.read_all(value.get("prompts"), (*path, "prompts")),
            repeat=self._repeat(value.get("evaluateOptions"), (*path, "evaluateOptions")),
            # A single judge is the suite's own; it stands there once, not in each assertion.
            judging=Judging(panel=judging.panel),
        )
        return Suite(
            cases=self._cases.read_all(self._tests(value, path, path_of_tests), defaults),
            description=self._fields.text(value, path, "description") or "",
            temperature=self._fields.number(value, path, "temperature", 0.0, 2.0),
            max_tokens=self._fields.whole(value, path, "max_tokens", 1, 100_000, default=_DEFAULT_MAX_TOKENS),
            judge=judging.model,
            cache=self._fields.flag(value, path, "cache"),
            framework=self._framework(value, path),
            generated_by=self._fields.text(value, path, "generated_by") or None,
            derived_metrics=self._derived(value.get("derivedMetrics"), (*path, "derivedMetrics")),
        )

    def _framework(self, value: dict[str, Any], path: Path) -> Framework | None:
        named = self._fields.text(value, path, "framework")
        if named is not None and named not in get_args(Framework):
            self._fields.find((*path, "framework"), f"must be one of {', '.join(get_args(Framework))}")
            return None
        return cast("Framework | None", named)

    def _tests(self, value: dict[str, Any], path: Path, path_of_tests: Path) -> list[Written]:
        scenarios = value.get("scenarios")
        tests = value.get("tests")
        # promptfoo makes one test of the prompts alone; a suite without any test is a mistake here, unless
        # scenarios bring them.
        found = [] if tests is None and scenarios else self._expansion.tests(tests, path_of_tests)
        return [*found, *self._expansion.scenarios(scenarios, (*path, "scenarios"))]

    def _read_providers(self, value: dict[str, Any], path: Path) -> None:
        for key in ("providers", "targets"):
            if value.get(key) is not None:
                self.models += read_providers(value[key], (*path, key), self._findings)

    def _repeat(self, value: JsonValue, path: Path) -> int:
        if value is None:
            return 1
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be an object")
            return 1
        self._fields.keys(value, path, ("repeat",), ignored=_IGNORED_OPTIONS)
        return self._fields.whole(value, path, "repeat", 1, 100, default=1)

    def _derived(self, value: JsonValue, path: Path) -> tuple[DerivedMetric, ...]:
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > MAX_DERIVED_METRICS:
            self._fields.expect(value, path, f"must be a list of up to {MAX_DERIVED_METRICS} objects {{name, value}}")
            return ()
        metrics = [self._derived_metric(item, (*path, index)) for index, item in enumerate(value)]
        return tuple(metric for metric in metrics if metric is not None)

    def _derived_metric(self, value: JsonValue, path: Path) -> DerivedMetric | None:
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be an object {name, value}")
            return None
        self._fields.keys(value, path, ("name", "value"))
        name, formula = self._fields.text(value, path, "name"), self._fields.text(value, path, "value")
        if not name or not formula:
            self._fields.find(path, "needs a `name`, and a formula as its `value`")
            return None
        try:
            check_formula(formula)
        except InvalidFormula as error:
            self._fields.find((*path, "value"), error.message)
        return DerivedMetric(name, formula)
