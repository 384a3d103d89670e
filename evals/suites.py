"""Test files -> Suite: where a suite may live, what its words mean, and errors that name file, line and path.

The words are promptfoo's (https://www.promptfoo.dev/docs/configuration/reference/) with `input`, `messages`,
`repeat` and `pass_rate` added. What promptfoo knows and this engine does not is refused by name.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from evals.assertions import ASSERTIONS
from evals.errors import EngineError, InvalidSuite
from evals.grading import check_assertion
from evals.json_reader import MAX_BYTES, Document, InvalidText, Path, read_json, require_plain
from evals.manifests import FOREIGN_SUITE_PATH, MANIFEST, SUITE_PATHS, Manifest, closest
from evals.templates import render, render_value
from evals.types import Assertion, AssertionSet, Case, JsonValue, Message, Role, Suite
from evals.yaml_reader import read_yaml

MAX_CASES = 2_000
MAX_ASSERTIONS_PER_CASE = 50
MAX_INPUT_CHARACTERS = 200_000
MAX_RENDERED_CHARACTERS = 20_000_000  # templates may make a small file large
MAX_SECONDS = 3.0  # of processor time, for the templates and assertions of one suite
MAX_MESSAGES = 100
MAX_TITLE_CHARACTERS = 300
MAX_FINDINGS = 50
_DEFAULT_MAX_TOKENS = Suite(cases=()).max_tokens

SUITE_KEYS = ("description", "tests", "defaultTest", "temperature", "max_tokens", "judge", "prompts")
CASE_KEYS = (
    "description", "title", "input", "messages", "vars", "assert", "threshold", "repeat", "pass_rate",
    "quarantine",
)  # fmt: skip
DEFAULT_KEYS = ("vars", "assert", "threshold", "repeat", "pass_rate")
ASSERTION_KEYS = ("type", "value", "threshold", "weight", "metric", "model", "provider")
SET_KEYS = ("type", "assert", "threshold", "weight", "metric")

# promptfoo's words that would change what a test means; ignoring them would make a false green.
_UNSUPPORTED = frozenset((
    "$ref", "assertScoringFunction", "assertionTemplates", "config", "contextTransform", "derivedMetrics",
    "env", "evaluateOptions", "extensions", "nunjucksFilters", "options", "provider", "providerOutput",
    "providerPromptMap", "redteam", "rubricPrompt", "scenarios", "transform",
))  # fmt: skip
# promptfoo's words that do not change what a test means here; a note names them.
_IGNORED = {
    "providers": "the models are chosen when the suite is run",
    "targets": "the models are chosen when the suite is run",
    "outputPath": "reports are chosen when the suite is run",
    "sharing": "sharing is chosen when the suite is run",
    "commandLineOptions": "options are given when the suite is run",
    "tags": "tags are not used",
    "metadata": "metadata is not used",
    "$schema": "the schema is known",
}


Variables = dict[str, JsonValue]


class FoundSuite(Struct, frozen=True):
    """A test file as it stands in a package; `json_pointer` says where in it the suite is (RFC 6901)."""

    path: str
    text: bytes
    json_pointer: str | None = None


class ReadSuite(Struct, frozen=True):
    """A parsed suite and sentences for its author about what was not used."""

    suite: Suite
    notes: tuple[str, ...] = ()


def find_suite(files: Mapping[str, bytes], manifest: Manifest) -> FoundSuite | None:
    """The package's suite, by the first place that has one; None if no place has."""
    for path in SUITE_PATHS:
        if path in files:
            return FoundSuite(path, files[path])
    if manifest.entry is not None and "tests" in manifest.raw:
        return FoundSuite(MANIFEST, files[MANIFEST], f"/packages/{manifest.entry}/tests")
    if FOREIGN_SUITE_PATH in files:
        return FoundSuite(FOREIGN_SUITE_PATH, files[FOREIGN_SUITE_PATH])
    return None


def read_suite(found: FoundSuite) -> ReadSuite:
    """The suite that was found. Raises InvalidSuite."""
    document = _read_text(found.text, found.path)
    return _read_document(document, path=found.path, root=_pointed(document, found))


def parse_suite(text: bytes | str, *, path: str) -> Suite:
    """A suite from YAML or JSON, by the extension of `path`, else by trying. Raises InvalidSuite."""
    return _read_document(_read_text(text, path), path=path).suite


def parse_suite_value(value: JsonValue, *, path: str) -> Suite:
    """A suite from an already decoded JSON value. Raises InvalidSuite."""
    document = Document(value, {})
    try:
        require_plain(document)
        too_large = len(msgspec.json.encode(value)) > MAX_BYTES
    except InvalidText as error:
        raise _invalid(path, [_Finding(error.path, error.message)], document) from None
    if too_large:
        raise _invalid(path, [_Finding((), f"larger than {MAX_BYTES:,} bytes")], document)
    return _read_document(document, path=path).suite


def suite_digest(suite: Suite) -> str:
    """64 hex digits that name what a suite says: equal for equal tests, wherever they stand."""
    builtins = msgspec.to_builtins(suite)
    for case in builtins["cases"]:
        case.pop("line", None)
    text = json.dumps(builtins, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class _Finding(Struct, frozen=True):
    path: Path
    message: str


def _read_text(text: bytes | str, path: str) -> Document:
    lower = path.lower()
    try:
        if lower.endswith(".json"):
            return read_json(text)
        if lower.endswith((".yaml", ".yml")):
            return read_yaml(text)
        return _read_either(text)
    except InvalidText as error:
        finding = _Finding(error.path, error.message)
        raise _invalid(path, [finding], Document(None, {error.path: error.line} if error.line else {})) from None


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
            raise _invalid(found.path, [_Finding(path, f"has no {part}")], document) from None
        path = (*path, step)
    return path


def _read_document(document: Document, *, path: str, root: Path = ()) -> ReadSuite:
    value = document.value
    for step in root:
        value = value[step]
    reader = _Reader(document)
    suite = reader.read_suite(value, root)
    if suite is None or reader.findings:
        raise _invalid(path, reader.findings, document)
    return ReadSuite(suite, tuple(reader.notes))


def _invalid(path: str, findings: Sequence[_Finding], document: Document) -> InvalidSuite:
    lines = [_detail(finding, document) for finding in findings[:MAX_FINDINGS]]
    line = document.line_of(findings[0].path)
    message = f"{path}, line {line}: {_sentence(findings[0])}" if line else f"{path}: {_sentence(findings[0])}"
    if len(findings) > MAX_FINDINGS:
        lines.append("... and more")
    return InvalidSuite(message, lines)


def _detail(finding: _Finding, document: Document) -> str:
    line = document.line_of(finding.path)
    return f"line {line}: {_sentence(finding)}" if line else _sentence(finding)


def _sentence(finding: _Finding) -> str:
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in finding.path)
    where = where.removeprefix(".")
    return f"{_shown(where, 200)}: {finding.message}" if where else finding.message


def _shown(word: Any, limit: int = 60) -> str:
    """The word for a message: cut, with control and other invisible characters escaped."""
    text = word if isinstance(word, str) else json.dumps(word, ensure_ascii=False, default=str)
    cut = text[:limit] + ("…" if len(text) > limit else "")
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


class _Defaults(Struct, frozen=True, kw_only=True):
    """What `defaultTest` and the suite's `prompts` give to every case."""

    vars: dict[str, JsonValue] = {}
    assertions: tuple[_Draft, ...] = ()
    threshold: float | None = None
    repeat: int = 1
    pass_rate: float = 1.0
    prompt: str | None = None


class _Draft(Struct, frozen=True, kw_only=True):
    """An assertion or set as written; `ready` when it has no template, so that all cases share it."""

    path: Path
    written: Assertion | AssertionSet
    ready: bool


class _Reader:
    """Walks a decoded suite and gathers findings; what it returns counts only if there are none."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.findings: list[_Finding] = []
        self.notes: list[str] = []
        self._rendered_characters = 0
        self._spent_seconds = 0.0
        self._is_over = False

    # The levels of a suite, from the outside in.

    def read_suite(self, value: JsonValue, path: Path) -> Suite | None:
        if isinstance(value, list):
            value, path_of_tests = {"tests": value}, path
        else:
            path_of_tests = (*path, "tests")
        if not isinstance(value, dict):
            self.find(path, "must hold `tests`, a list of test cases")
            return None
        self._keys(value, path, SUITE_KEYS, ignored=_IGNORED)
        defaults = self._defaults(value, path)
        return Suite(
            cases=self._cases(value.get("tests"), path_of_tests, defaults),
            description=self._text(value, path, "description") or "",
            temperature=self._number(value, path, "temperature", 0.0, 2.0),
            max_tokens=self._whole(value, path, "max_tokens", 1, 100_000, default=_DEFAULT_MAX_TOKENS),
            judge=self._text(value, path, "judge"),
        )

    def _defaults(self, suite: dict[str, Any], path: Path) -> _Defaults:
        prompt = self._prompt(suite.get("prompts"), (*path, "prompts"))
        value = suite.get("defaultTest")
        path = (*path, "defaultTest")
        if value is None:
            return _Defaults(prompt=prompt)
        if not isinstance(value, dict):
            self._expect(value, path, "must be an object")
            return _Defaults(prompt=prompt)
        self._keys(value, path, DEFAULT_KEYS)
        return _Defaults(
            vars=self._vars(value, path),
            assertions=self._drafts(value, path),
            threshold=self._number(value, path, "threshold", -math.inf, math.inf),
            repeat=self._whole(value, path, "repeat", 1, 100, default=1),
            pass_rate=self._share(value, path, "pass_rate", default=1.0),
            prompt=prompt,
        )

    def _prompt(self, value: JsonValue, path: Path) -> str | None:
        if value is None:
            return None
        prompts = [value] if isinstance(value, str) else value
        if not isinstance(prompts, list) or len(prompts) != 1:
            self.find(path, "must hold one prompt; write a suite for each further one")
            return None
        prompt = prompts[0]
        if isinstance(prompt, dict) and isinstance(prompt.get("raw"), str):
            prompt = prompt["raw"]
        if not isinstance(prompt, str):
            self._expect(prompt, (*path, 0), "must be text")
            return None
        if prompt.startswith(("file://", "http://", "https://", "exec:")):
            self.find((*path, 0), "prompts from files, commands and addresses are not supported; write the text")
        elif prompt.lstrip().startswith(("[{", "- role")):
            self.find((*path, 0), "prompts of several messages are not supported; give each test `messages`")
        return prompt

    def _cases(self, value: JsonValue, path: Path, defaults: _Defaults) -> tuple[Case, ...]:
        if isinstance(value, str):
            self.find(path, "tests from files and addresses are not supported; write the list here")
            return ()
        if not isinstance(value, list) or not value:
            self.find(path, "must be a list of at least one test case")
            return ()
        if len(value) > MAX_CASES:
            self.find(path, f"has {len(value):,} test cases; {MAX_CASES:,} are the most")
            return ()
        cases = []
        for index, item in enumerate(value):
            if self._is_over or len(self.findings) >= MAX_FINDINGS:
                break
            cases.append(self._case(item, (*path, index), index, defaults))
        return tuple(case for case in cases if case is not None)

    def _case(self, value: JsonValue, path: Path, index: int, defaults: _Defaults) -> Case | None:
        if not isinstance(value, dict):
            self._expect(value, path, "must be an object with `input` and `assert`")
            return None
        self._keys(value, path, CASE_KEYS, ignored={"metadata": _IGNORED["metadata"]})
        variables = self._rendered_vars({**defaults.vars, **self._vars(value, path)}, path)
        drafts = (*defaults.assertions, *self._drafts(value, path))
        count = sum(_count(draft.written) for draft in drafts)
        if count > MAX_ASSERTIONS_PER_CASE:
            self.find(path, f"has {count} assertions; {MAX_ASSERTIONS_PER_CASE} are the most")
            return None
        if not drafts:
            self._note(f"tests[{index}] asserts nothing: it passes whatever the model answers.")
        own_threshold = self._number(value, path, "threshold", -math.inf, math.inf)
        return Case(
            title=self._title(value, path, index),
            messages=self._messages(value, path, variables, defaults.prompt),
            assertions=self._finished(drafts, variables),
            threshold=defaults.threshold if own_threshold is None else own_threshold,
            vars=variables,
            repeat=self._whole(value, path, "repeat", 1, 100, default=defaults.repeat),
            pass_rate=self._share(value, path, "pass_rate", default=defaults.pass_rate),
            quarantine=self._flag(value, path, "quarantine"),
            line=self._document.line_of(path),
        )

    def _title(self, value: dict[str, Any], path: Path, index: int) -> str:
        if "title" in value and "description" in value:
            self.find((*path, "title"), "give `title` or `description`, not both")
        key = "title" if "title" in value else "description"
        title = (self._text(value, path, key) or "").strip()
        if len(title) > MAX_TITLE_CHARACTERS:
            self.find((*path, key), f"is longer than {MAX_TITLE_CHARACTERS} characters")
        return title or f"Test {index + 1}"

    # What is said to the model.

    def _messages(
        self, value: dict[str, Any], path: Path, variables: Variables, prompt: str | None
    ) -> tuple[Message, ...]:
        if "input" in value and "messages" in value:
            self.find((*path, "messages"), "give `input` or `messages`, not both")
            return ()
        if "messages" in value:
            return self._conversation(value["messages"], (*path, "messages"), variables)
        if "input" in value:
            text = value["input"]
            if not isinstance(text, str):
                self._expect(text, (*path, "input"), "must be text")
                return ()
            return (self._message("user", text, (*path, "input"), variables),)
        if prompt is None:
            self.find(path, "needs `input` or `messages`, or `vars` for a prompt in the suite's `prompts`")
            return ()
        return (self._message("user", prompt, path, variables),)

    def _conversation(self, value: JsonValue, path: Path, variables: Variables) -> tuple[Message, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
            self._expect(value, path, f"must be a list of 1 to {MAX_MESSAGES} objects {{role, content}}")
            return ()
        messages = [self._turn(item, (*path, index), variables) for index, item in enumerate(value)]
        if messages[-1] is not None and messages[-1].role != "user":
            self.find((*path, len(value) - 1, "role"), "the last message must be the user's")
        return tuple(message for message in messages if message is not None)

    def _turn(self, value: JsonValue, path: Path, variables: Variables) -> Message | None:
        if not isinstance(value, dict):
            self._expect(value, path, "must be an object {role, content}")
            return None
        self._keys(value, path, ("role", "content"))
        roles: tuple[Role, ...] = ("system", "user", "assistant")
        role = next((known for known in roles if known == value.get("role")), None)
        content = value.get("content")
        if role is None:
            self.find((*path, "role"), "must be one of system, user, assistant")
        if not isinstance(content, str):
            self._expect(content, (*path, "content"), "must be text")
            return None
        return self._message(role or "user", content, (*path, "content"), variables)

    def _message(self, role: Role, text: str, path: Path, variables: Variables) -> Message:
        self._refuse_files(text, path)
        rendered = str(self._render(render, text, variables, path))
        if len(rendered) > MAX_INPUT_CHARACTERS:
            self.find(path, f"is longer than {MAX_INPUT_CHARACTERS:,} characters")
        return Message(role, rendered)

    def _vars(self, value: dict[str, Any], path: Path) -> dict[str, JsonValue]:
        variables, path = value.get("vars"), (*path, "vars")
        if variables is None:
            return {}
        if not isinstance(variables, dict):
            self._expect(variables, path, "must be an object of names and values")
            return {}
        for name, item in variables.items():
            if isinstance(item, list):
                # promptfoo makes one test of each element; as a plain list it would mean something else.
                self.find((*path, name), "a list of values is not supported; write a test for each")
            self._refuse_files(item, (*path, name))
        return variables

    def _rendered_vars(self, variables: Variables, path: Path) -> dict[str, JsonValue]:
        return {
            name: self._render(render_value, value, variables, (*path, "vars", name))
            for name, value in variables.items()
        }

    # What is asked of the answer.

    def _drafts(self, value: dict[str, Any], path: Path) -> tuple[_Draft, ...]:
        items, path = value.get("assert"), (*path, "assert")
        if items is None:
            return ()
        if not isinstance(items, list):
            self._expect(items, path, "must be a list of objects {type, value}")
            return ()
        if len(items) > MAX_ASSERTIONS_PER_CASE:
            self.find(path, f"has {len(items):,} assertions; {MAX_ASSERTIONS_PER_CASE} are the most")
            return ()
        drafts = [self._draft(item, (*path, index)) for index, item in enumerate(items)]
        return tuple(draft for draft in drafts if draft is not None)

    def _draft(self, value: JsonValue, path: Path) -> _Draft | None:
        if isinstance(value, dict) and value.get("type") == "assert-set":
            written: Assertion | AssertionSet | None = self._set(value, path)
        else:
            written = self._assertion(value, path)
        if written is None:
            return None
        ready = not _has_template(written)
        if ready:
            self._check(written, path)
        return _Draft(path=path, written=written, ready=ready)

    def _set(self, value: dict[str, Any], path: Path) -> AssertionSet | None:
        self._keys(value, path, SET_KEYS)
        items = value.get("assert")
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_ASSERTIONS_PER_CASE:
            self._expect(items, (*path, "assert"), "must be a list of objects {type, value}")
            return None
        members = [self._assertion(item, (*path, "assert", index)) for index, item in enumerate(items)]
        return AssertionSet(
            assertions=tuple(member for member in members if member is not None),
            threshold=self._number(value, path, "threshold", -math.inf, math.inf),
            weight=self._weight(value, path),
            metric=self._text(value, path, "metric"),
        )

    def _assertion(self, value: JsonValue, path: Path) -> Assertion | None:
        if isinstance(value, str):
            hint = f'write `{{type: icontains, value: "{_shown(value)}"}}`' if value else "write {type, value}"
            self.find(path, f"must be an object, not text; {hint}, or another type")
            return None
        if not isinstance(value, dict):
            self._expect(value, path, "must be an object {type, value}")
            return None
        self._keys(value, path, ASSERTION_KEYS)
        type_ = value.get("type")
        if not isinstance(type_, str) or not type_:
            self._expect(type_, (*path, "type"), "must be the name of an assertion")
            return None
        if type_ == "assert-set":
            self.find((*path, "type"), "a set cannot hold another set")
            return None
        self._refuse_files(value.get("value"), (*path, "value"))
        return Assertion(
            type=type_,
            value=value.get("value", UNSET),
            threshold=self._number(value, path, "threshold", -math.inf, math.inf),
            weight=self._weight(value, path),
            metric=self._text(value, path, "metric"),
            model=self._judge(value, path),
        )

    def _judge(self, value: dict[str, Any], path: Path) -> str | None:
        if "model" in value and "provider" in value:
            self.find((*path, "provider"), "give `model` or `provider`, not both")
        return self._text(value, path, "model" if "model" in value else "provider")

    def _finished(self, drafts: Sequence[_Draft], variables: Variables) -> tuple[Assertion | AssertionSet, ...]:
        return tuple(draft.written if draft.ready else self._finish(draft, variables) for draft in drafts)

    def _finish(self, draft: _Draft, variables: Variables) -> Assertion | AssertionSet:
        if isinstance(draft.written, AssertionSet):
            members = tuple(
                self._rendered(member, variables, (*draft.path, "assert", index))
                for index, member in enumerate(draft.written.assertions)
            )
            finished: Assertion | AssertionSet = msgspec.structs.replace(draft.written, assertions=members)
        else:
            finished = self._rendered(draft.written, variables, draft.path)
        self._check(finished, draft.path)
        return finished

    def _rendered(self, written: Assertion, variables: Variables, path: Path) -> Assertion:
        if written.value is UNSET:
            return written
        value = self._render(render_value, written.value, variables, (*path, "value"))
        return msgspec.structs.replace(written, value=value)

    def _check(self, finished: Assertion | AssertionSet, path: Path) -> None:
        if isinstance(finished, AssertionSet):
            for index, member in enumerate(finished.assertions):
                self._check(member, (*path, "assert", index))
            return
        if not self._has_time(path):
            return
        try:
            with self._clock():
                check_assertion(finished)
        except EngineError as error:
            is_known = finished.type.removeprefix("not-") in ASSERTIONS
            self.find(path if is_known else (*path, "type"), error.message)

    # Single values.

    def find(self, path: Path, message: str) -> None:
        """Keep one thing that the author has to change."""
        finding = _Finding(path, message)
        # What is wrong with a default is found again in each case.
        if len(self.findings) <= MAX_FINDINGS and finding not in self.findings:
            self.findings.append(finding)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        """Adds up the processor time of what a suite can make slow: templates and the checks of assertions."""
        started = time.thread_time()
        try:
            yield
        finally:
            self._spent_seconds += time.thread_time() - started

    def _has_time(self, path: Path) -> bool:
        if self._spent_seconds > MAX_SECONDS:
            self.find(path, f"the templates and assertions take more than {MAX_SECONDS:g} s to read")
            self._is_over = True
        return not self._is_over

    def _note(self, sentence: str) -> None:
        if len(self.notes) < MAX_FINDINGS and sentence not in self.notes:
            self.notes.append(sentence)

    def _expect(self, value: JsonValue, path: Path, expectation: str) -> None:
        """One finding about a value of the wrong kind; numbers and booleans get the hint that quotes help."""
        if isinstance(value, str) and value.startswith("file://"):
            self._refuse_files(value, path)
        elif "text" in expectation and isinstance(value, (bool, int, float)):
            self.find(path, f"{expectation}; put quotes around {_shown(value)}")
        else:
            self.find(path, expectation)

    def _keys(
        self,
        value: dict[str, Any],
        path: Path,
        known: Sequence[str],
        *,
        ignored: Mapping[str, str] | None = None,
    ) -> None:
        for key, item in value.items():
            if key in known:
                continue
            if ignored and key in ignored:
                self._refuse_functions(item, (*path, key))
                self._note(f"`{key}` is ignored: {ignored[key]}.")
            elif key in _UNSUPPORTED:
                self.find((*path, key), f"promptfoo's `{key}` is not supported here; take it out")
            else:
                near = closest(key, known)
                self.find((*path, key), f"unknown key{near}; known here: {', '.join(known)}")

    def _refuse_functions(self, value: JsonValue, path: Path) -> None:
        for item in value if isinstance(value, list) else [value]:
            name = item.get("id") if isinstance(item, dict) else item
            if isinstance(name, str) and name.startswith(("file://", "exec:", "python:", "http://", "https://")):
                self.find(path, "providers that run code or call an address are not supported; take them out")

    def _refuse_files(self, value: JsonValue, path: Path) -> None:
        if isinstance(value, str) and value.startswith("file://"):
            self.find(path, "file:// is not supported; write the content here")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._refuse_files(item, (*path, index))
        elif isinstance(value, dict):
            for key, item in value.items():
                self._refuse_files(item, (*path, key))

    def _render(
        self, how: Callable[[Any, Variables], Any], value: JsonValue, variables: Variables, path: Path
    ) -> JsonValue:
        if not _has_template_text(value):
            return value
        if self._rendered_characters > MAX_RENDERED_CHARACTERS:
            self.find(path, f"the templates make more than {MAX_RENDERED_CHARACTERS:,} characters in all")
            return value
        if not self._has_time(path):
            return value
        try:
            with self._clock():
                rendered = how(value, variables)
        except EngineError as error:
            self.find(path, error.message)
            return value
        self._rendered_characters += _length(rendered)
        return rendered

    def _text(self, value: dict[str, Any], path: Path, key: str) -> str | None:
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            self._expect(text, (*path, key), "must be text")
            return None
        return text

    def _number(self, value: dict[str, Any], path: Path, key: str, low: float, high: float) -> float | None:
        number = value.get(key)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.find((*path, key), "must be a number")
            return None
        if not low <= number <= high:
            self.find((*path, key), f"must be from {low:g} to {high:g}")
        return float(number)

    def _flag(self, value: dict[str, Any], path: Path, key: str) -> bool:
        flag = value.get(key, False)
        if not isinstance(flag, bool):
            self.find((*path, key), "must be true or false")
            return False
        return flag

    def _share(self, value: dict[str, Any], path: Path, key: str, *, default: float) -> float:
        share = self._number(value, path, key, 0.0, 1.0)
        return default if share is None else share

    def _weight(self, value: dict[str, Any], path: Path) -> float:
        weight = self._number(value, path, "weight", 0.0, 1_000_000.0)
        return 1.0 if weight is None else weight

    def _whole(self, value: dict[str, Any], path: Path, key: str, low: int, high: int, *, default: int) -> int:
        number = value.get(key)
        if number is None:
            return default
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            self.find((*path, key), f"must be a whole number from {low:,} to {high:,}")
            return default
        return number


def _count(written: Assertion | AssertionSet) -> int:
    return len(written.assertions) if isinstance(written, AssertionSet) else 1


def _has_template(written: Assertion | AssertionSet) -> bool:
    if isinstance(written, AssertionSet):
        return any(map(_has_template, written.assertions))
    return _has_template_text(written.value)


def _has_template_text(value: JsonValue) -> bool:
    """True if rendering would change the value: a text, or the texts of a list. The braces of a schema are its own."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    return isinstance(value, list) and any(_has_template_text(item) for item in value if isinstance(item, str))


def _length(value: JsonValue) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _length(item) for key, item in value.items())
    return sum(map(_length, value)) if isinstance(value, list) else 8
