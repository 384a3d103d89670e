"""Who judges: `judge` of a suite or an assertion, `provider` and `rubricPrompt` of an assertion or of `options`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec import Struct

from evals.assertions import ASSERTIONS
from evals.errors import InvalidSuite
from evals.json_reader import InvalidText, Path, read_json
from evals.panels import MAX_JUDGES, MAX_VOTES
from evals.suites.fields import Fields
from evals.suites.providers import model_name
from evals.suites.sources import is_reference
from evals.templates import check_template
from evals.types import Assertion, AssertionSet, JsonValue, Panel

JUDGE_KEYS: Final = ("models", "votes")


class Judging(Struct, frozen=True, kw_only=True):
    """What holds for assertions that say nothing else. A `model` from nearer by takes the place of a panel."""

    model: str | None = None
    panel: Panel | None = None
    rubric_prompt: str | None = None


class Judges:
    """Reads who judges, and by which question."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields

    def read(self, value: JsonValue, path: Path) -> Judging:
        """A judge: the name of a model, or {models, votes}."""
        if value is None:
            return Judging()
        if isinstance(value, str) and value:
            return Judging(model=model_name(value))
        if not isinstance(value, dict):
            self._fields.expect(value, path, "must be the name of a model, or an object {models, votes}")
            return Judging()
        self._fields.keys(value, path, JUDGE_KEYS)
        models = value.get("models", [])
        if not isinstance(models, list) or not all(isinstance(name, str) and name for name in models):
            self._fields.expect(models, (*path, "models"), "must be a list of names of models")
            return Judging()
        votes = self._fields.whole(value, path, "votes", 1, MAX_VOTES, default=max(1, len(models)))
        if len(models) > min(votes, MAX_JUDGES):
            self._fields.find(
                (*path, "models"), f"are at most {MAX_JUDGES}, and each has to have one of the {votes} votes"
            )
        return Judging(panel=Panel(models=tuple(map(model_name, models)), votes=votes))

    def read_own(self, value: dict[str, Any], path: Path) -> Judging:
        """The judge of an assertion: `judge`, or promptfoo's `provider`, or `model`."""
        given = [key for key in ("judge", "model", "provider") if value.get(key) is not None]
        if len(given) > 1:
            self._fields.find((*path, given[1]), f"give `{given[0]}` or `{given[1]}`, not both")
        if not given:
            return Judging()
        if given[0] == "judge":
            return self.read(value["judge"], (*path, "judge"))
        named = self._fields.text(value, path, given[0])
        return Judging(model=None if named is None else model_name(named))

    def read_provider(self, value: JsonValue, path: Path) -> str | None:
        """promptfoo's `options.provider`: the name of a model, or an object with it as `id`."""
        named = value.get("id") if isinstance(value, dict) else value
        if isinstance(named, str) and named:
            return model_name(named)
        self._fields.expect(value, path, "must be the name of a model")
        return None

    def read_prompt(self, value: dict[str, Any], path: Path) -> str | None:
        """The template in `rubricPrompt`: a text, or a conversation (as JSON, too) of which the texts count."""
        prompt, at = value.get("rubricPrompt"), (*path, "rubricPrompt")
        if prompt is None:
            return None
        if isinstance(prompt, str) and prompt.lstrip().startswith("["):
            with suppress(InvalidText):
                prompt = read_json(prompt).value
        texts = [item.get("content") for item in prompt if isinstance(item, dict)] if isinstance(prompt, list) else []
        text = prompt if isinstance(prompt, str) else "\n\n".join(item for item in texts if isinstance(item, str))
        if not text.strip() or is_reference(text):
            self._fields.expect(prompt, at, "must be a text with a template, or a list of {role, content}")
            return None
        try:
            check_template(text)
        except InvalidSuite as error:
            self._fields.find(at, error.message)
        return text


def judged_by(judging: Judging, item: Assertion | AssertionSet) -> Assertion | AssertionSet:
    """The assertion with what it leaves open filled in."""
    if judging == Judging():
        return item
    if isinstance(item, AssertionSet):
        return msgspec.structs.replace(item, assertions=tuple(_filled(judging, member) for member in item.assertions))
    return _filled(judging, item)


def _filled(judging: Judging, assertion: Assertion) -> Assertion:
    name = assertion.type.removeprefix("not-")
    if name not in ASSERTIONS or not ASSERTIONS[name].asks:
        return assertion
    is_open = assertion.model is None and assertion.panel is None
    takes_prompt = assertion.rubric_prompt is None and not ASSERTIONS[name].compares
    return msgspec.structs.replace(
        assertion,
        model=judging.model if is_open else assertion.model,
        # The panel's own models judge, or else those of the assertion's one.
        panel=judging.panel if is_open and judging.model is None else assertion.panel,
        rubric_prompt=judging.rubric_prompt if takes_prompt else assertion.rubric_prompt,
    )
