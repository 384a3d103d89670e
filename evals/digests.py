"""Names for what a case asks and a package tells, made of the content: equal for equal content, wherever it stands."""

from __future__ import annotations

import hashlib
import json

import msgspec

from evals.types import Case, Instructions, JsonValue, Suite

# What says how often a case runs and who sees it; the question stays the same.
_NOT_ASKED = ("title", "line", "repeat", "pass_rate", "quarantine")


def case_digest(suite: Suite, case: Case) -> str:
    """16 hex digits that name what a case asks and how it is judged, with the suite's settings for the model."""
    asked = {key: value for key, value in msgspec.to_builtins(case).items() if key not in _NOT_ASKED}
    return _digest([asked, [suite.temperature, suite.max_tokens, suite.judge]])[:16]


def instructions_digest(instructions: Instructions) -> str:
    """64 hex digits that name what a package tells the model; its name and version are not in it."""
    told = msgspec.to_builtins(instructions)
    return _digest({key: value for key, value in told.items() if key not in ("name", "version", "files")})


def _digest(value: JsonValue) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
