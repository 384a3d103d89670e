"""What is said to the model: the suite's `prompts`, and `input` or `messages` of a case, as templates."""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec import Struct

from evals.errors import EngineError
from evals.json_reader import InvalidText, Path, read_json
from evals.suites.fields import Fields
from evals.suites.findings import shown
from evals.suites.rendering import Renderer, Variables
from evals.suites.sources import CODE_ENDINGS, SCHEME, Sources, is_reference
from evals.types import JsonValue, Message, Role
from evals.yaml_reader import read_yaml

MAX_INPUT_CHARACTERS: Final = 200_000
MAX_MESSAGES: Final = 100
MAX_PROMPTS: Final = 100

_PROMPT_KEYS = ("raw", "label", "id", "display")
_CODE = ("exec:", "http://", "https://", "langfuse://", "portkey://", "helicone://")
_MAY_BE_A_FILE = re.compile(r"[\w./*-]+\.(?:txt|md|json|jsonl|ya?ml|csv|j2|js|py|ts)")
_SEPARATOR = re.compile(r"^---\s*$", re.MULTILINE)


class Template(Struct, frozen=True):
    """A message whose text is still a template, and where it stands."""

    role: Role
    text: str
    path: Path


class Prompt(Struct, frozen=True):
    """One of the suite's prompts; the label tells it from the others."""

    messages: tuple[Template, ...]
    label: str


class Prompts:
    """Reads what is said, and fills it in."""

    def __init__(self, fields: Fields, sources: Sources, renderer: Renderer) -> None:
        self._fields = fields
        self._sources = sources
        self._renderer = renderer

    def read_all(self, value: JsonValue, path: Path) -> tuple[Prompt, ...]:
        """The suite's `prompts`; none if there are none."""
        if value is None:
            return ()
        items = value if isinstance(value, list) else [value]
        if not 1 <= len(items) <= MAX_PROMPTS:
            self._fields.find(path, f"must hold 1 to {MAX_PROMPTS} prompts")
            return ()
        found = [prompt for index, item in enumerate(items) for prompt in self._item(item, (*path, index))]
        return tuple(_numbered(found))

    def read_own(self, value: dict[str, Any], path: Path) -> tuple[Template, ...] | None:
        """The `input` or `messages` of a case; None if it has neither."""
        if "input" in value and "messages" in value:
            self._fields.find((*path, "messages"), "give `input` or `messages`, not both")
            return ()
        if "messages" in value:
            return self.conversation(value["messages"], (*path, "messages"))
        if "input" not in value:
            return None
        text, path = value["input"], (*path, "input")
        if not isinstance(text, str):
            self._fields.expect(text, path, "must be text")
            return ()
        return (Template("user", self._loaded(text, path), path),)

    def conversation(self, value: JsonValue, path: Path) -> tuple[Template, ...]:
        """A list of {role, content}, which ends with the user."""
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_MESSAGES:
            self._fields.expect(value, path, f"must be a list of 1 to {MAX_MESSAGES} objects {{role, content}}")
            return ()
        turns = [self._turn(item, (*path, index)) for index, item in enumerate(value)]
        if turns[-1] is not None and turns[-1].role != "user":
            self._fields.find((*path, len(value) - 1, "role"), "the last message must be the user's")
        return tuple(turn for turn in turns if turn is not None)

    def fill_in(
        self, templates: tuple[Template, ...], variables: Variables, *, prefix: str = "", suffix: str = ""
    ) -> tuple[Message, ...]:
        """The messages for one set of variables; `prefix` and `suffix` stand around the user's last one."""
        last = len(templates) - 1
        return tuple(
            self._message(t, f"{prefix}{t.text}{suffix}" if index == last else t.text, variables)
            for index, t in enumerate(templates)
        )

    def _message(self, template: Template, text: str, variables: Variables) -> Message:
        rendered = self._renderer.text(text, variables, template.path)
        if len(rendered) > MAX_INPUT_CHARACTERS:
            self._fields.find(template.path, f"is longer than {MAX_INPUT_CHARACTERS:,} characters")
        return Message(template.role, rendered)

    def _turn(self, value: JsonValue, path: Path) -> Template | None:
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be an object {role, content}")
            return None
        self._fields.keys(value, path, ("role", "content"))
        roles: tuple[Role, ...] = ("system", "user", "assistant")
        role = next((known for known in roles if known == value.get("role")), None)
        content, at = value.get("content"), (*path, "content")
        if role is None:
            self._fields.find((*path, "role"), "must be one of system, user, assistant")
        if not isinstance(content, str):
            self._fields.expect(content, at, "must be text")
            return None
        return Template(role or "user", self._loaded(content, at), at)

    def _loaded(self, text: str, path: Path) -> str:
        """The text, or that of the one file it names."""
        if not is_reference(text):
            return text
        names = self._sources.resolve(text, path)
        if len(names) > 1:
            self._fields.find(path, f"{shown(text)} names {len(names)} files; name one")
        return self._sources.text(names[0], path).strip() if names else ""

    # The suite's prompts.

    def _item(self, item: JsonValue, path: Path) -> list[Prompt]:
        label = ""
        if isinstance(item, dict):
            self._fields.keys(item, path, _PROMPT_KEYS)
            label = self._fields.text(item, path, "label") or ""
            item = item.get("raw", item.get("id"))
        if not isinstance(item, str) or not item:
            self._fields.expect(item, path, "must be text")
            return []
        if item.startswith(_CODE):
            self._fields.find(path, "prompts from commands and addresses are not supported; write the text")
            return []
        if is_reference(item):
            return self._files(item, path, label)
        if _MAY_BE_A_FILE.fullmatch(item):
            if self._sources.holds(item):
                return self._files(f"{SCHEME}{item}", path, label)
            self._fields.find(path, f"looks like the name of a file; write file://{item}")
        return [Prompt(self._templates(item, path), label)]

    def _files(self, reference: str, path: Path, label: str) -> list[Prompt]:
        return [prompt for name in self._sources.resolve(reference, path) for prompt in self._file(name, path, label)]

    def _file(self, name: str, path: Path, label: str) -> list[Prompt]:
        lower = name.lower()
        if lower.endswith((*CODE_ENDINGS, ".csv")):
            self._fields.find(path, f"prompts from {lower.rpartition('.')[2]} files are not supported; write the text")
            return []
        text = self._sources.text(name, path)
        if lower.endswith(".jsonl"):
            pieces = text.splitlines()
        else:
            pieces = _SEPARATOR.split(text) if lower.endswith(".txt") else [text]
        prompts = [Prompt(self._templates(piece.strip(), path), label or name) for piece in pieces if piece.strip()]
        if not prompts:
            self._fields.find(path, f"{shown(name)} holds no prompt")
        return prompts

    def _templates(self, text: str, path: Path) -> tuple[Template, ...]:
        """One message of the user, or the conversation that the text spells in JSON or YAML."""
        start = text.lstrip()
        if start.startswith("[") and '"role"' in start:
            read = read_json
        elif start.startswith("- role"):
            read = read_yaml
        else:
            return (Template("user", text, path),)
        try:
            value = read(text).value
        except (InvalidText, EngineError) as error:
            self._fields.find(
                path, f"is no list of {{role, content}}: {error.message}; templates in it need quotes around them"
            )
            return ()
        return tuple(Template(t.role, t.text, path) for t in self.conversation(value, path))


def _numbered(prompts: list[Prompt]) -> list[Prompt]:
    """Each prompt with a label of its own, as soon as there are several."""
    if len(prompts) < 2:
        return prompts
    labels = [prompt.label or f"prompt {index + 1}" for index, prompt in enumerate(prompts)]
    return [
        Prompt(prompt.messages, label if labels.count(label) == 1 else f"{label} {index + 1}")
        for index, (prompt, label) in enumerate(zip(prompts, labels, strict=True))
    ]
