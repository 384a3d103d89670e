"""promptfoo's names of models -> the public names of this project."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from evals.json_reader import Path
from evals.suites.findings import Findings, shown
from evals.types import JsonValue

# The model's own name, whatever vendor, route and date stand around it. A name stays what it is, or is one of its
# own line: a small or a newer line never stands in for another one.
_MODELS: Final = (
    (re.compile(r"claude-(?:sonnet-4|4-sonnet)(?:-\d{8})?"), "claude-sonnet-4"),
    (re.compile(r"claude-(?:opus-4|4-opus)(?:-\d{8})?"), "claude-opus-4"),
    (re.compile(r"gpt-4o(?:-\d{4}-\d\d-\d\d)?"), "gpt-4o"),
    (re.compile(r"gpt-4-turbo(?:-preview|-\d{4}-\d\d-\d\d)?"), "gpt-4-turbo"),
    (re.compile(r"(?:meta-)?llama-?3[.-]1-70b(?:-instruct)?(?:-turbo)?"), "llama-3.1-70b"),
    (re.compile(r"(?:meta-)?llama-?3[.-]1-8b(?:-instruct)?(?:-turbo|-instant)?"), "llama-3.1-8b"),
    (re.compile(r"gemini-pro|gemini-(?:1\.5|2\.5)-pro(?:-\d{3}|-latest)?"), "gemini-pro"),
)
_CODE: Final = ("file://", "exec:", "python:", "http://", "https://", "ws://", "wss://", "golang:", "ruby:")


def model_name(provider: str) -> str:
    """The public name of `openai:chat:gpt-4o-2024-08-06` and the like; any other name as it is."""
    own = re.split(r"[:/]", provider.strip())[-1].lower()
    return next((name for pattern, name in _MODELS if pattern.fullmatch(own)), provider)


def read_providers(value: JsonValue, path: Path, findings: Findings) -> tuple[str, ...]:
    """The models that `providers` (or `targets`) names, each once; notes for what has no name here.

    Providers that run code or call an address are findings.
    """
    names: list[str] = []
    for provider in _identifiers(value):
        if provider.startswith(_CODE):
            findings.find(path, "providers that run code or call an address are not supported; take them out")
            continue
        name = model_name(provider)
        if name == provider and ":" in provider:
            findings.note(f"`{path[-1]}` names {shown(provider)}, which is no model here; choose one with -m.")
        elif name not in names:
            names.append(name)
    if names:
        findings.note(f"`{path[-1]}` does not choose the models; to test with the same ones: -m {','.join(names)}")
    return tuple(names)


def _identifiers(value: JsonValue) -> Iterator[str]:
    items: Iterable[Any] = value if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict) and isinstance(item.get("id"), str):
            yield item["id"]
        elif isinstance(item, dict) and len(item) == 1:
            # promptfoo's short form: {"openai:gpt-4o": {config}}
            yield from item
