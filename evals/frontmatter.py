"""The block between `---` lines at the head of a prompt file, and the text below it.

Editors write it as YAML that often is none (`globs: **/*.ts`), so what YAML refuses is read line by line.
"""

from __future__ import annotations

import re

from msgspec import Struct

from evals.json_reader import InvalidText
from evals.types import JsonValue
from evals.yaml_reader import read_yaml

_BLOCK = re.compile(r"\A\s*---[ \t]*\n(?P<fields>.*?)(?:^|\n)---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE)
_FIELD = re.compile(r"(?P<key>[A-Za-z][\w-]*):(?:[ \t]+(?P<value>.*))?")
# The commas inside `Bash(git add:*, git rm:*)` separate nothing.
_BETWEEN_TOOLS = re.compile(r",\s*(?![^(]*\))")
_MAX_BYTES = 64_000


class PromptText(Struct, frozen=True, kw_only=True):
    """A prompt file without its frontmatter, and what the frontmatter said of it."""

    text: str
    name: str | None = None
    description: str | None = None
    allowed_tools: tuple[str, ...] = ()


def read_prompt_text(content: str) -> PromptText:
    """The text below the frontmatter, or all of it where there is none. Never fails."""
    content = content.removeprefix("\ufeff").replace("\r\n", "\n")
    found = _BLOCK.match(content)
    fields = _read_fields(found["fields"]) if found else None
    if found is None or fields is None:
        return PromptText(text=content.strip())
    return PromptText(
        text=content[found.end() :].strip(),
        name=_text(fields.get("name")),
        description=_text(fields.get("description")),
        allowed_tools=_tools(fields.get("allowed-tools", fields.get("tools"))),
    )


def _read_fields(block: str) -> dict[str, JsonValue] | None:
    """The fields, or None if the block is text between two rules instead."""
    try:
        value = read_yaml(block, max_bytes=_MAX_BYTES).value
    except InvalidText:
        return _read_lines(block)
    if value is None:
        return {}
    return value if isinstance(value, dict) else None


def _read_lines(block: str) -> dict[str, JsonValue] | None:
    fields: dict[str, JsonValue] = {}
    for line in block.splitlines():
        if found := _FIELD.fullmatch(line.rstrip()):
            fields[found["key"]] = (found["value"] or "").strip().strip("\"'")
        elif line.strip() and not line.startswith((" ", "\t", "-", "#")):
            return None
    return fields or None


def _text(value: JsonValue) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _tools(value: JsonValue) -> tuple[str, ...]:
    if isinstance(value, str):
        value = _BETWEEN_TOOLS.split(value)
    if not isinstance(value, list):
        return ()
    return tuple(tool.strip() for tool in value if isinstance(tool, str) and tool.strip())
