"""Packages of tests, drawn in a line or two."""

from __future__ import annotations

import json
from typing import Any

from evals.archives import pack

SUITE = {
    "tests": [
        {
            "description": "says Paris",
            "input": "Paris, of course",
            "assert": [{"type": "contains", "value": "Paris"}],
        },
        {
            "description": "says Rome",
            "input": "no city at all",
            "assert": [{"type": "contains", "value": "Rome"}],
        },
    ]
}
PASSING_SUITE = {"tests": SUITE["tests"][:1]}


def a_package(
    name: str = "sample",
    *,
    version: str = "1.0.0",
    text: str = "You answer in one sentence.",
    suite: dict[str, Any] | None = SUITE,
    **manifest: Any,
) -> dict[str, bytes]:
    """A cursor rule with a suite."""
    about = {
        "name": name,
        "version": version,
        "description": "A package for tests.",
        "format": "cursor",
        "subtype": "rule",
        "files": [".cursor/rules/sample.mdc"],
        **manifest,
    }
    files = {
        "prpm.json": json.dumps(about).encode(),
        ".cursor/rules/sample.mdc": f"---\ndescription: Sample\n---\n{text}\n".encode(),
    }
    if suite is not None:
        files["prpm.test.json"] = json.dumps(suite).encode()
    return files


def an_archive(name: str = "sample", **kwargs: Any) -> bytes:
    """The same as .tar.gz."""
    return pack(a_package(name, **kwargs))
