"""Names for what a suite asks, made of its content: equal for equal questions, wherever they stand."""

from __future__ import annotations

import hashlib
import json

import msgspec

from evals.types import Case, JsonValue, Suite

# What says how often a case runs and who sees it; the question stays the same.
_NOT_ASKED = ("title", "line", "repeat", "pass_rate", "quarantine")


def case_digest(suite: Suite, case: Case) -> str:
    """16 hex digits that name what a case asks and how it is judged, with the suite's settings for the model."""
    asked = {key: value for key, value in msgspec.to_builtins(case).items() if key not in _NOT_ASKED}
    settings = [suite.temperature, suite.max_tokens, suite.judge]
    return _digest([asked, settings])[:16]


def _digest(value: JsonValue) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
