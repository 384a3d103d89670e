"""One test as written -> its cases: one for each combination of its lists of vars, and each of the suite's prompts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice, product
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from evals.grading import compared
from evals.json_reader import Path
from evals.suites.assertions import MAX_ASSERTIONS_PER_CASE, Assertions, Draft, count
from evals.suites.expansion import MAX_CASES, Written
from evals.suites.fields import Fields
from evals.suites.findings import Findings, shown
from evals.suites.judges import Judges, Judging
from evals.suites.prompts import Prompt, Prompts, Template
from evals.suites.rendering import Renderer, Variables
from evals.suites.sources import CODE_ENDINGS, Sources, is_reference
from evals.types import Assertion, AssertionSet, Case, JsonValue, Turn

MAX_TITLE_CHARACTERS: Final = 300
MAX_TURNS: Final = 20
CASE_KEYS: Final = (
    "description", "title", "input", "messages", "turns", "vars", "assert", "threshold", "repeat", "pass_rate",
    "quarantine", "options",
)  # fmt: skip
DEFAULT_KEYS: Final = ("vars", "assert", "threshold", "repeat", "pass_rate", "options")
OPTION_KEYS: Final = ("prefix", "suffix", "provider", "rubricPrompt", "disableVarExpansion")
METADATA: Final = {"metadata": "metadata is not used"}

_SHOWN_IN_TITLE = 40


class Options(Struct, frozen=True, kw_only=True):
    """What `options` says of a test, or of all."""

    prefix: str = ""
    suffix: str = ""
    judging: Judging = Judging()
    expands: bool = True  # whether a list among the vars means several cases


class Defaults(Struct, frozen=True, kw_only=True):
    """What `defaultTest` and the suite's `prompts` give to every case."""

    vars: Variables = {}
    drafts: tuple[Draft, ...] = ()
    threshold: float | None = None
    repeat: int = 1
    pass_rate: float = 1.0
    options: Options = Options()
    prompts: tuple[Prompt, ...] = ()


class _Turn(NamedTuple):
    """What the user says in one turn, and what is asked of the answer."""

    said: tuple[Template, ...]
    drafts: tuple[Draft, ...]


class Cases:
    """Makes cases of tests, and shares what tests share."""

    def __init__(
        self,
        fields: Fields,
        findings: Findings,
        sources: Sources,
        renderer: Renderer,
        *,
        prompts: Prompts,
        assertions: Assertions,
    ) -> None:
        self._fields = fields
        self._findings = findings
        self._sources = sources
        self._renderer = renderer
        self._prompts = prompts
        self._assertions = assertions
        self._judges = Judges(fields)
        self._contests = 0
        self._drafts: dict[Path, tuple[Draft, ...]] = {}

    def read_defaults(
        self, value: JsonValue, path: Path, *, prompts: tuple[Prompt, ...], repeat: int, judging: Judging
    ) -> Defaults:
        """The suite's `defaultTest`, which may be a file. `judging` holds where no test says otherwise."""
        own = Options(judging=judging)
        if is_reference(value):
            names = self._sources.resolve(value, path)
            if len(names) == 1:
                place = self._sources.value(names[0], path)
                value, path = place.value, place.path
        if value is None:
            return Defaults(prompts=prompts, repeat=repeat, options=own)
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be an object")
            return Defaults(prompts=prompts)
        self._fields.keys(value, path, DEFAULT_KEYS, ignored=METADATA)
        return Defaults(
            vars=self._vars(value, path),
            drafts=self._assertions.drafts(value.get("assert"), (*path, "assert")),
            threshold=self._fields.number(value, path, "threshold", -math.inf, math.inf),
            repeat=self._fields.whole(value, path, "repeat", 1, 100, default=repeat),
            pass_rate=self._fields.share(value, path, "pass_rate", default=1.0),
            options=self._options(value, path, own),
            prompts=prompts,
        )

    def read_all(self, tests: list[Written], defaults: Defaults) -> tuple[Case, ...]:
        """All cases, in the order of the tests."""
        cases: list[Case] = []
        for index, test in enumerate(tests):
            if self._renderer.is_over or self._findings.is_full:
                break
            cases.extend(islice(self._read(test, index, defaults), MAX_CASES + 1 - len(cases)))
            if len(cases) > MAX_CASES:
                self._fields.find(
                    test.path,
                    f"with it there are more than {MAX_CASES:,} cases, as each list of vars and each prompt multiplies",
                )
                break
        return tuple(cases)

    def _read(self, test: Written, index: int, defaults: Defaults) -> Iterator[Case]:
        value, path = test.value, test.path
        self._fields.keys(value, path, CASE_KEYS, ignored=METADATA)
        options = self._options(value, path, defaults.options)
        variables = {**defaults.vars, **self._vars(value, path)}
        drafts = (*defaults.drafts, *(draft for items, at in test.asserts for draft in self._shared_drafts(items, at)))
        turns = self._turns(value, path)
        every_draft = (*drafts, *(draft for turn in turns or () for draft in turn.drafts))
        if not self._is_sound(every_draft, index, path):
            return
        title = self._title(value, path, index)
        own_threshold = self._fields.number(value, path, "threshold", -math.inf, math.inf)
        prompts = self._prompts_of(value, path, defaults) if turns is None else (Prompt(turns[0].said, ""),)
        repeat = self._fields.whole(value, path, "repeat", 1, 100, default=defaults.repeat)
        pass_rate = self._fields.share(value, path, "pass_rate", default=defaults.pass_rate)
        quarantine = self._fields.flag(value, path, "quarantine") is True
        for chosen, suffix in self._combinations(variables, path, options):
            rendered = self._rendered(chosen, path)
            assertions = self._finished(drafts, rendered, options)
            contest = self._contest(assertions, prompts)
            for prompt in prompts:
                yield Case(
                    title=_joined(title, suffix, prompt.label),
                    messages=self._prompts.fill_in(
                        prompt.messages, rendered, prefix=options.prefix, suffix=options.suffix
                    ),
                    turns=tuple(self._turn(turn, rendered, options) for turn in turns or ()),
                    assertions=assertions,
                    threshold=defaults.threshold if own_threshold is None else own_threshold,
                    vars=rendered,
                    repeat=repeat,
                    pass_rate=pass_rate,
                    quarantine=quarantine,
                    contest=contest,
                    line=self._findings.line_of(path),
                )

    def _finished(
        self, drafts: tuple[Draft, ...], variables: Variables, options: Options
    ) -> tuple[Assertion | AssertionSet, ...]:
        return self._assertions.finish(drafts, variables, judging=options.judging)

    def _contest(self, assertions: tuple[Assertion | AssertionSet, ...], prompts: tuple[Prompt, ...]) -> int | None:
        """A number that the cases of one test share whose answers are compared with each other."""
        if len(prompts) < 2 or not compared(Case(title="", messages=(), assertions=assertions)):
            return None
        self._contests += 1
        return self._contests

    # A conversation in which each answer feeds the next.

    def _turns(self, value: dict[str, Any], path: Path) -> list[_Turn] | None:
        items, at = value.get("turns"), (*path, "turns")
        if items is None:
            return None
        for other in ("input", "messages"):
            if other in value:
                self._fields.find(at, f"give `turns` or `{other}`, not both")
        if not isinstance(items, list) or not 1 <= len(items) <= MAX_TURNS:
            self._fields.expect(items, at, f"must be a list of 1 to {MAX_TURNS} texts, or objects {{input, assert}}")
            return [_Turn((), ())]
        return [self._read_turn(item, (*at, index)) for index, item in enumerate(items)]

    def _read_turn(self, item: JsonValue, path: Path) -> _Turn:
        if isinstance(item, str):
            item = {"input": item}
        if not isinstance(item, dict) or "input" not in item:
            self._fields.expect(item, path, "must be text, or an object {input, assert}")
            return _Turn((), ())
        self._fields.keys(item, path, ("input", "assert"))
        drafts = self._assertions.drafts(item.get("assert"), (*path, "assert"))
        said = self._prompts.read_own({"input": item["input"]}, path)
        return _Turn(said or (), drafts)

    def _turn(self, turn: _Turn, variables: Variables, options: Options) -> Turn:
        said = self._prompts.fill_in(turn.said, variables, prefix=options.prefix, suffix=options.suffix)
        return Turn(
            content="".join(message.content for message in said),
            assertions=self._finished(turn.drafts, variables, options),
        )

    def _shared_drafts(self, items: JsonValue, path: Path) -> tuple[Draft, ...]:
        """A scenario's assertions are read once for all its tests."""
        if path not in self._drafts:
            self._drafts[path] = self._assertions.drafts(items, path)
        return self._drafts[path]

    def _is_sound(self, drafts: tuple[Draft, ...], index: int, path: Path) -> bool:
        number = sum(count(draft.written) for draft in drafts)
        if number > MAX_ASSERTIONS_PER_CASE:
            self._fields.find(path, f"has {number} assertions; {MAX_ASSERTIONS_PER_CASE} are the most")
        if not drafts:
            self._findings.note(f"tests[{index}] asserts nothing: it passes whatever the model answers.")
        return number <= MAX_ASSERTIONS_PER_CASE

    def _title(self, value: dict[str, Any], path: Path, index: int) -> str:
        if "title" in value and "description" in value:
            self._fields.find((*path, "title"), "give `title` or `description`, not both")
        key = "title" if "title" in value else "description"
        title = (self._fields.text(value, path, key) or "").strip()
        if len(title) > MAX_TITLE_CHARACTERS:
            self._fields.find((*path, key), f"is longer than {MAX_TITLE_CHARACTERS} characters")
        return title or f"Test {index + 1}"

    def _prompts_of(self, value: dict[str, Any], path: Path, defaults: Defaults) -> tuple[Prompt, ...]:
        own = self._prompts.read_own(value, path)
        if own is not None:
            return (Prompt(own, ""),)
        if not defaults.prompts:
            self._fields.find(
                path, "needs `input`, `messages` or `turns`, or `vars` for a prompt in the suite's `prompts`"
            )
        return defaults.prompts

    def _options(self, value: dict[str, Any], path: Path, inherited: Options) -> Options:
        options, path = value.get("options"), (*path, "options")
        if options is None:
            return inherited
        if not isinstance(options, dict):
            self._fields.expect(options, path, "must be an object")
            return inherited
        self._fields.keys(options, path, OPTION_KEYS)
        expands = options.get("disableVarExpansion", not inherited.expands)
        if not isinstance(expands, bool):
            self._fields.expect(expands, (*path, "disableVarExpansion"), "must be true or false")
        prefix, suffix = self._fields.text(options, path, "prefix"), self._fields.text(options, path, "suffix")
        return Options(
            prefix=inherited.prefix if prefix is None else prefix,
            suffix=inherited.suffix if suffix is None else suffix,
            judging=self._judging(options, path, inherited.judging),
            expands=expands is not True,
        )

    def _judging(self, options: dict[str, Any], path: Path, inherited: Judging) -> Judging:
        own = inherited
        if options.get("provider") is not None:
            model = self._judges.read_provider(options["provider"], (*path, "provider"))
            own = msgspec.structs.replace(inherited, model=model, panel=None)
        prompt = self._judges.read_prompt(options, path)
        return own if prompt is None else msgspec.structs.replace(own, rubric_prompt=prompt)

    # Vars.

    def _vars(self, value: dict[str, Any], path: Path) -> Variables:
        variables, path = value.get("vars"), (*path, "vars")
        if is_reference(variables):
            names = self._sources.resolve(variables, path)
            if len(names) != 1:
                return {}
            place = self._sources.value(names[0], path)
            variables, path = place.value, place.path
        if variables is None:
            return {}
        if not isinstance(variables, dict):
            self._fields.expect(variables, path, "must be an object of names and values")
            return {}
        return {name: self._loaded(item, (*path, name)) for name, item in variables.items()}

    def _loaded(self, value: JsonValue, path: Path) -> JsonValue:
        """The value, with the texts of the files that it names in their places; a pattern is a list of texts."""
        if isinstance(value, list):
            return [self._loaded(item, (*path, index)) for index, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._loaded(item, (*path, key)) for key, item in value.items()}
        if not is_reference(value):
            return value
        if value.lower().endswith(CODE_ENDINGS):
            self._fields.find(path, f"{shown(value)} is code, which makes no vars here; write the value")
            return ""
        texts = []
        for name in self._sources.resolve(value, path):
            text = self._sources.text(name, path).strip()
            if not self._renderer.count(len(text), path):
                break
            texts.append(text)
        return texts if len(texts) > 1 else "".join(texts)

    def _combinations(self, variables: Variables, path: Path, options: Options) -> Iterator[tuple[Variables, str]]:
        """Each choice of one value from every list, and words that tell it from the others."""
        lists = {name: value for name, value in variables.items() if isinstance(value, list)} if options.expands else {}
        for name, values in lists.items():
            if not values or not all(isinstance(value, str) for value in values):
                self._fields.find(
                    (*path, "vars", name),
                    "a list makes a case of each of its texts; put quotes around them, or set "
                    "`options: {disableVarExpansion: true}` to use the list as it is",
                )
                return
        for choice in product(*lists.values()):
            chosen = dict(zip(lists, choice, strict=True))
            words = ", ".join(f"{name}: {shown(value, _SHOWN_IN_TITLE)}" for name, value in chosen.items())
            yield {**variables, **chosen}, words

    def _rendered(self, variables: Variables, path: Path) -> Variables:
        return {
            name: self._renderer.value(value, variables, (*path, "vars", name)) for name, value in variables.items()
        }


def _joined(*parts: str) -> str:
    title = " · ".join(part for part in parts if part)
    return title if len(title) <= MAX_TITLE_CHARACTERS else title[: MAX_TITLE_CHARACTERS - 1] + "…"
