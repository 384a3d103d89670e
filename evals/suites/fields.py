"""Single values of a suite: of the kind that is expected, or a finding that says what is expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from evals.json_reader import Path
from evals.manifests import closest
from evals.suites.findings import Findings, shown
from evals.types import JsonValue

# promptfoo's words that would change what a test means; ignoring them would make a false green.
_UNSUPPORTED: Final = frozenset((
    "$ref", "assertScoringFunction", "assertionTemplates", "config", "contextTransform", "derivedMetrics",
    "env", "evaluateOptions", "extensions", "nunjucksFilters", "options", "postprocess", "provider", "providerOutput",
    "providerPromptMap", "redteam", "rubricPrompt", "scenarios", "storeOutputAs", "transform", "transformVars",
))  # fmt: skip


class Fields:
    """Reads values out of objects that were decoded from a suite."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    @property
    def found(self) -> int:
        """How much was found so far, so that what depends on a wrong value need not be looked at."""
        return len(self._findings.wrong)

    def find(self, path: Path, message: str) -> None:
        """Keep one thing that the author has to change."""
        self._findings.find(path, message)

    def expect(self, value: JsonValue, path: Path, expectation: str) -> None:
        """One finding about a value of the wrong kind; numbers and booleans get the hint that quotes help."""
        if isinstance(value, str) and value.startswith("file://"):
            self.find(path, "file:// is not supported here; write the content")
        elif "text" in expectation and isinstance(value, (bool, int, float)):
            self.find(path, f"{expectation}; put quotes around {shown(value)}")
        else:
            self.find(path, expectation)

    def keys(
        self, value: dict[str, Any], path: Path, known: Sequence[str], *, ignored: Mapping[str, str] | None = None
    ) -> None:
        """A finding for each key that is not known; a note for each that is `ignored`, with the reason."""
        for key in value:
            if key in known:
                continue
            if ignored and key in ignored:
                self._findings.note(f"`{key}` is ignored: {ignored[key]}.")
            elif key in _UNSUPPORTED:
                self.find((*path, key), f"promptfoo's `{key}` is not supported here; take it out")
            else:
                near = closest(key, known)
                self.find((*path, key), f"unknown key{near}; known here: {', '.join(known)}")

    def text(self, value: dict[str, Any], path: Path, key: str) -> str | None:
        """The text under a key, None without one."""
        text = value.get(key)
        if text is not None and not isinstance(text, str):
            self.expect(text, (*path, key), "must be text")
            return None
        return text

    def flag(self, value: dict[str, Any], path: Path, key: str) -> bool | None:
        """True or false under a key; None without one."""
        flag = value.get(key)
        if flag is not None and not isinstance(flag, bool):
            self.find((*path, key), "must be true or false")
            return None
        return flag

    def number(self, value: dict[str, Any], path: Path, key: str, low: float, high: float) -> float | None:
        """The number under a key, from low to high; None without one."""
        number = value.get(key)
        if number is None:
            return None
        if isinstance(number, bool) or not isinstance(number, int | float):
            self.find((*path, key), "must be a number")
            return None
        if not low <= number <= high:
            self.find((*path, key), f"must be from {low:g} to {high:g}")
        return float(number)

    def share(self, value: dict[str, Any], path: Path, key: str, *, default: float) -> float:
        """A number from 0 to 1."""
        share = self.number(value, path, key, 0.0, 1.0)
        return default if share is None else share

    def weight(self, value: dict[str, Any], path: Path) -> float:
        """The `weight`, 1 without one."""
        weight = self.number(value, path, "weight", 0.0, 1_000_000.0)
        return 1.0 if weight is None else weight

    def whole(self, value: dict[str, Any], path: Path, key: str, low: int, high: int, *, default: int) -> int:
        """A whole number from low to high."""
        number = value.get(key)
        if number is None:
            return default
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            self.find((*path, key), f"must be a whole number from {low:,} to {high:,}")
            return default
        return number
