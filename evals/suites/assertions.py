"""What is asked of an answer: `assert` lists, sets, `assertionTemplates` and files of expected values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct

from evals.assertions import ASSERTIONS
from evals.errors import EngineError
from evals.grading import check_assertion
from evals.json_reader import Path
from evals.suites.fields import Fields
from evals.suites.findings import shown
from evals.suites.judges import Judges, Judging, judged_by
from evals.suites.rendering import Renderer, Variables, has_template
from evals.suites.sources import CODE_ENDINGS, Sources, is_reference
from evals.types import Assertion, AssertionSet, JsonValue

MAX_ASSERTIONS_PER_CASE: Final = 50
ASSERTION_KEYS: Final = (
    "type", "value", "threshold", "weight", "metric", "model", "provider", "judge", "rubricPrompt", "transform",
)  # fmt: skip
SET_KEYS: Final = ("type", "assert", "threshold", "weight", "metric")

_TEMPLATES = "#/assertionTemplates/"
_MAX_REFERENCES = 10  # from one template to the next


class Draft(Struct, frozen=True, kw_only=True):
    """An assertion or set as written; `ready` when it has no template, so that all cases share it."""

    path: Path
    written: Assertion | AssertionSet
    ready: bool


class Assertions:
    """Reads assertions once, and finishes them for each case's variables."""

    def __init__(self, fields: Fields, sources: Sources, renderer: Renderer, *, allow_code: bool) -> None:
        self._fields = fields
        self._sources = sources
        self._renderer = renderer
        self._allow_code = allow_code
        self._templates: dict[str, Any] = {}
        self._judges = Judges(fields)

    def know_templates(self, value: JsonValue, path: Path) -> None:
        """The suite's `assertionTemplates`, which `$ref` may name from now on."""
        if value is None:
            return
        if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
            self._fields.find(path, "must be an object of names and assertions")
            return
        self._templates = value

    def drafts(self, items: JsonValue, path: Path) -> tuple[Draft, ...]:
        """The assertions of an `assert` list."""
        if items is None:
            return ()
        if not isinstance(items, list):
            self._fields.expect(items, path, "must be a list of objects {type, value}")
            return ()
        if len(items) > MAX_ASSERTIONS_PER_CASE:
            self._fields.find(path, f"has {len(items):,} assertions; {MAX_ASSERTIONS_PER_CASE} are the most")
            return ()
        drafts = [self._draft(item, (*path, index)) for index, item in enumerate(items)]
        return tuple(draft for draft in drafts if draft is not None)

    def finish(
        self, drafts: Sequence[Draft], variables: Variables, *, judging: Judging
    ) -> tuple[Assertion | AssertionSet, ...]:
        """The assertions with their templates filled in; `judging` holds where an assertion says nothing of it."""
        finished = (draft.written if draft.ready else self._finish(draft, variables) for draft in drafts)
        return tuple(judged_by(judging, item) for item in finished)

    def _draft(self, value: JsonValue, path: Path) -> Draft | None:
        before = self._fields.found
        value = self._dereferenced(value, path)
        if isinstance(value, dict) and value.get("type") == "assert-set":
            written: Assertion | AssertionSet | None = self._set(value, path)
        else:
            written = self._assertion(value, path)
        if written is None or self._fields.found > before:
            return None
        ready = not _has_template(written)
        if ready:
            self._check(written, path)
        return Draft(path=path, written=written, ready=ready)

    def _dereferenced(self, value: JsonValue, path: Path) -> JsonValue:
        """The template that `$ref` names, with what stands beside it in place of its own words."""
        for _ in range(_MAX_REFERENCES):
            if not isinstance(value, dict) or "$ref" not in value:
                return value
            reference, own = value["$ref"], {key: item for key, item in value.items() if key != "$ref"}
            name = reference.removeprefix(_TEMPLATES) if isinstance(reference, str) else ""
            if not isinstance(reference, str) or not reference.startswith(_TEMPLATES):
                self._fields.find((*path, "$ref"), f"must be {_TEMPLATES} and a name; nothing else can be referred to")
                return {"type": "equals", "value": ""}
            if name not in self._templates:
                known = ", ".join(map(shown, self._templates)) or "none"
                self._fields.find((*path, "$ref"), f"names no assertion template; known are {known}")
                return {"type": "equals", "value": ""}
            value = {**self._templates[name], **own}
        self._fields.find((*path, "$ref"), "leads from template to template without end")
        return {"type": "equals", "value": ""}

    def _set(self, value: dict[str, Any], path: Path) -> AssertionSet | None:
        self._fields.keys(value, path, SET_KEYS)
        items = value.get("assert")
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ASSERTIONS_PER_CASE:
            self._fields.expect(items, (*path, "assert"), "must be a list of objects {type, value}")
            return None
        places = [(*path, "assert", index) for index in range(len(items))]
        members = [self._assertion(self._dereferenced(item, at), at) for item, at in zip(items, places, strict=True)]
        return AssertionSet(
            assertions=tuple(member for member in members if member is not None),
            threshold=self._fields.number(value, path, "threshold", -math.inf, math.inf),
            weight=self._fields.weight(value, path),
            metric=self._fields.text(value, path, "metric"),
        )

    def _assertion(self, value: JsonValue, path: Path) -> Assertion | None:
        if isinstance(value, str):
            hint = f'write `{{type: icontains, value: "{shown(value)}"}}`' if value else "write {type, value}"
            self._fields.find(path, f"must be an object, not text; {hint}, or another type")
            return None
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be an object {type, value}")
            return None
        self._fields.keys(value, path, ASSERTION_KEYS)
        type_ = value.get("type")
        if not isinstance(type_, str) or not type_:
            self._fields.expect(type_, (*path, "type"), "must be the name of an assertion")
            return None
        if type_ == "assert-set":
            self._fields.find((*path, "type"), "a set cannot hold another set")
            return None
        own = self._judges.read_own(value, path)
        return Assertion(
            type=type_,
            value=self._value(value.get("value", UNSET), (*path, "value"), type_=type_),
            threshold=self._fields.number(value, path, "threshold", -math.inf, math.inf),
            weight=self._fields.weight(value, path),
            metric=self._fields.text(value, path, "metric"),
            model=own.model,
            panel=own.panel,
            rubric_prompt=self._judges.read_prompt(value, path),
            transform=self._transform(value, path),
        )

    def _transform(self, value: dict[str, Any], path: Path) -> str | None:
        code = self._fields.text(value, path, "transform")
        if code is None or not is_reference(code):
            return code
        return str(self._file_value(code, (*path, "transform")))

    # Values, and the files that they name.

    def _value(self, value: Any, path: Path, *, type_: str) -> Any:
        if isinstance(value, list):
            return [self._value(item, (*path, index), type_=type_) for index, item in enumerate(value)]
        if not is_reference(value):
            self._refuse_references(value, path)
            return value
        if value.lower().endswith(CODE_ENDINGS) and not _runs_code(type_):
            self._fields.find(path, f"{shown(value)} is code; only the assertions `javascript` and `python` run any")
            return ""
        return self._file_value(value, path)

    def _file_value(self, reference: str, path: Path) -> JsonValue:
        names = self._sources.resolve(reference, path)
        if len(names) != 1:
            if names:
                self._fields.find(path, f"{shown(reference)} names {len(names)} files; name one")
            return ""
        if names[0].lower().endswith((".json", ".yaml", ".yml")):
            return self._sources.value(names[0], path).value
        return self._sources.text(names[0], path).strip()

    def _refuse_references(self, value: JsonValue, path: Path) -> None:
        for key, item in value.items() if isinstance(value, dict) else ():
            if is_reference(item):
                self._fields.find(
                    (*path, key), "file:// is not supported inside an object; let it name the whole value"
                )
            self._refuse_references(item, (*path, key))

    # For each case.

    def _finish(self, draft: Draft, variables: Variables) -> Assertion | AssertionSet:
        if isinstance(draft.written, AssertionSet):
            members = tuple(
                self._rendered(member, variables, (*draft.path, "assert", index))
                for index, member in enumerate(draft.written.assertions)
            )
            metric = self._metric(draft.written.metric, variables, draft.path)
            finished: Assertion | AssertionSet = msgspec.structs.replace(
                draft.written, assertions=members, metric=metric
            )
        else:
            finished = self._rendered(draft.written, variables, draft.path)
        self._check(finished, draft.path)
        return finished

    def _rendered(self, written: Assertion, variables: Variables, path: Path) -> Assertion:
        written = msgspec.structs.replace(written, metric=self._metric(written.metric, variables, path))
        if written.value is UNSET:
            return written
        value = self._renderer.value(written.value, variables, (*path, "value"))
        return msgspec.structs.replace(written, value=value)

    def _metric(self, metric: str | None, variables: Variables, path: Path) -> str | None:
        return metric if metric is None else self._renderer.text(metric, variables, (*path, "metric"))

    def _check(self, finished: Assertion | AssertionSet, path: Path) -> None:
        if isinstance(finished, AssertionSet):
            for index, member in enumerate(finished.assertions):
                self._check(member, (*path, "assert", index))
            return
        if not self._renderer.has_time(path):
            return
        try:
            with self._renderer.clock():
                check_assertion(finished, allow_code=self._allow_code)
        except EngineError as error:
            is_known = finished.type.removeprefix("not-") in ASSERTIONS
            self._fields.find(path if is_known else (*path, "type"), error.message)


def count(written: Assertion | AssertionSet) -> int:
    """How many assertions these are."""
    return len(written.assertions) if isinstance(written, AssertionSet) else 1


def _runs_code(type_: str) -> bool:
    name = type_.removeprefix("not-")
    return name in ASSERTIONS and ASSERTIONS[name].runs_code


def _has_template(written: Assertion | AssertionSet) -> bool:
    if written.metric is not None and has_template(written.metric):
        return True
    if isinstance(written, AssertionSet):
        return any(map(_has_template, written.assertions))
    return written.value is not UNSET and has_template(written.value)
