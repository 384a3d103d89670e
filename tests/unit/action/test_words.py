"""Inputs and outputs: one list in the code, and the same in action.yml and the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from action_entry.errors import Misused
from action_entry.inputs import INPUTS, read_inputs
from action_entry.outputs import OUTPUTS

ROOT = Path(__file__).parents[3]
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def test_action_yml__has_the_codes_inputs() -> None:
    written = {name: (one["description"], one["default"], one["required"]) for name, one in ACTION["inputs"].items()}

    assert written == {word.name: (word.meaning, word.default, False) for word in INPUTS}
    assert list(written) == [word.name for word in INPUTS]


def test_action_yml__has_the_codes_outputs() -> None:
    written = {name: (one["description"], one["value"]) for name, one in ACTION["outputs"].items()}

    assert written == {word.name: (word.meaning, f"${{{{ steps.test.outputs.{word.name} }}}}") for word in OUTPUTS}


def test_action_yml__gives_inputs_by_the_environment_only() -> None:
    (step,) = ACTION["runs"]["steps"]

    given = {name: value for name, value in step["env"].items() if name != "WORKFLOW_TOKEN"}
    assert given == {
        f"INPUT_{word.name.upper().replace('-', '_')}": f"${{{{ inputs.{word.name} }}}}" for word in INPUTS
    }
    assert (ACTION["runs"]["using"], step["shell"], step["run"][:5]) == ("composite", "bash", "exec ")


def test_action_yml__is_branded() -> None:
    assert set(ACTION["branding"]) == {"icon", "color"}


def table_of(document: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without head and rule."""
    text = (ROOT / document).read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1]
    rows = re.search(r"(?:^\|.*\|\n)+", text, re.MULTILINE)
    assert rows is not None
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in rows[0].splitlines()[2:]]


def test_readme__has_the_codes_inputs() -> None:
    shown = {word.name: "" if word.default.startswith("${{") else word.default for word in INPUTS}

    assert table_of("README.md", "### Inputs") == [
        [f"`{word.name}`", word.meaning, f"`{shown[word.name]}`" if shown[word.name] else ""] for word in INPUTS
    ]


def test_readme__has_the_codes_outputs() -> None:
    assert table_of("README.md", "### Outputs") == [[f"`{word.name}`", word.meaning] for word in OUTPUTS]


def test_inputs__have_defaults() -> None:
    inputs = read_inputs({})

    assert (inputs.fail_on, inputs.on_error, inputs.comment, inputs.check_run) == (
        "regressions", "neutral", "changes", "auto",
    )  # fmt: skip
    assert (inputs.paths, inputs.models, inputs.min_score, inputs.upload) == ((".",), (), None, False)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("fail-on", "regression", "choose one of: regressions, failures, never"),
        ("on-error", "ignore", "choose one of: neutral, fail"),
        ("comment", "sometimes", "choose one of: changes, always, failures, never"),
        ("min-score", "80", "a number from 0 to 1"),
        ("min-score", "nan", "a number from 0 to 1"),
        ("timeout", "forever", "has to be seconds"),
        ("timeout", "0", "has to be seconds"),
        ("upload", "yes", "choose one of"),
        ("framework", "langchain", "choose one of: litellm, claude-agent, auto"),
        ("package", "packages/greeter", "For a folder use `path`"),
        ("notify", "https", "line 1 has to be `kind: address`"),
        ("api-token", "a b", "is no token"),
        ("account", "a\x1b[31m", "control characters"),
    ],
)
def test_inputs__what_is_wrong_is_said(name: str, value: str, said: str) -> None:
    with pytest.raises(Misused) as caught:
        read_inputs({name: value})

    assert said in caught.value.details[0]
    assert caught.value.details[0].startswith(name)


def test_inputs__everything_wrong_is_said_at_once() -> None:
    with pytest.raises(Misused) as caught:
        read_inputs({"fail-on": "x", "timeout": "y", "server-url": "z"})

    assert len(caught.value.details) == 3


def test_inputs__no_secret_is_shown() -> None:
    inputs = read_inputs({"api-token": "prpm_secret", "notify": "slack: https://secret", "github-token": "ghs_secret"})

    assert "secret" not in repr(inputs)
