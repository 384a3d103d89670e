"""Templates of a suite, all of them within one budget of time and size."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from evals.errors import EngineError
from evals.json_reader import Path
from evals.suites.findings import Findings
from evals.templates import render, render_value
from evals.types import JsonValue

MAX_RENDERED_CHARACTERS: Final = 20_000_000  # templates may make a small file large
MAX_SECONDS: Final = 3.0  # of processor time, for the templates and assertions of one suite

Variables = dict[str, JsonValue]

_OPENING: Final = re.compile(r"\{[{%]")
# What promptfoo fills in and we do not. Empty as other names without a value, it would change the test in silence.
_NOT_HERE: Final = {
    "env": (re.compile(r"\benv\s*[.\[]"), "templates cannot read environment variables; use `vars`"),
    "_conversation": (
        re.compile(r"\b_conversation\b"),
        "templates have no `_conversation`; write what the user says one after the other as the `turns` of one case",
    ),
}


class Renderer:
    """Fills templates in until the suite has used up its time or room; then it finds so, and stops."""

    def __init__(self, findings: Findings) -> None:
        self.is_over = False
        self._findings = findings
        self._characters = 0
        self._seconds = 0.0

    def text(self, text: str, variables: Variables, path: Path) -> str:
        """The text with its variables filled in."""
        return str(self._render(render, text, variables, path))

    def value(self, value: JsonValue, variables: Variables, path: Path) -> JsonValue:
        """A text, or the texts of a list, filled in; anything else as it is."""
        return self._render(render_value, value, variables, path)

    def count(self, characters: int, path: Path) -> bool:
        """Whether there is room for so many more characters; a finding if not."""
        self._characters += characters
        if self._characters > MAX_RENDERED_CHARACTERS:
            self._findings.find(
                path, f"the templates and files make more than {MAX_RENDERED_CHARACTERS:,} characters in all"
            )
            self.is_over = True
        return not self.is_over

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Adds up the processor time of what a suite can make slow: templates and the checks of assertions."""
        started = time.thread_time()
        try:
            yield
        finally:
            self._seconds += time.thread_time() - started

    def has_time(self, path: Path) -> bool:
        """Whether there is time left; a finding if not."""
        if self._seconds > MAX_SECONDS:
            self._findings.find(path, f"the templates and assertions take more than {MAX_SECONDS:g} s to read")
            self.is_over = True
        return not self.is_over

    def _render(
        self, how: Callable[[Any, Variables], Any], value: JsonValue, variables: Variables, path: Path
    ) -> JsonValue:
        if not has_template(value) or not self.has_time(path):
            return value
        self._refuse_what_is_not_here(value, variables, path)
        try:
            with self.clock():
                rendered = how(value, variables)
        except EngineError as error:
            self._findings.find(path, error.message)
            return value
        self.count(_length(rendered), path)
        return rendered

    def _refuse_what_is_not_here(self, value: JsonValue, variables: Variables, path: Path) -> None:
        texts = [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
        for name, (use, sentence) in _NOT_HERE.items():
            if name not in variables and any(use.search(tag) for text in texts for tag in tags_of(text)):
                self._findings.find(path, sentence)


def tags_of(text: str) -> Iterator[str]:
    """What stands between the braces of a template, each piece once: one that is never closed ends the search."""
    at = 0
    while opening := _OPENING.search(text, at):
        end = text.find("}}" if opening[0] == "{{" else "%}", opening.end())
        yield text[opening.end() : end if end >= 0 else len(text)]
        if end < 0:
            return
        at = end + 2


def has_template(value: JsonValue) -> bool:
    """True if rendering would change the value: a text, or the texts of a list. The braces of a schema are its own."""
    if isinstance(value, str):
        return any(mark in value for mark in ("{{", "{%", "{#"))
    return isinstance(value, list) and any(has_template(item) for item in value if isinstance(item, str))


def _length(value: JsonValue) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _length(item) for key, item in value.items())
    return sum(map(_length, value)) if isinstance(value, list) else 8
