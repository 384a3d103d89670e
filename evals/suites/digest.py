"""The name of what a suite says, whatever file it stands in."""

from __future__ import annotations

import hashlib
import json

import msgspec

from evals.types import Suite


def suite_digest(suite: Suite) -> str:
    """64 hex digits that name what a suite says: equal for equal tests, wherever they stand."""
    builtins = msgspec.to_builtins(suite)
    for case in builtins["cases"]:
        case.pop("line", None)
    text = json.dumps(builtins, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
