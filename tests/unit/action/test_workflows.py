"""The workflows that people copy: what they may do, and whose code they run (G5, G6)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.runners import ROOT

OURS = "prpm-dev/testing@v1"
# The last is for check runs, in the workflow with a check for each package.
RIGHTS = {"contents": "read", "pull-requests": "write", "id-token": "write", "checks": "write"}


def workflows() -> dict[str, dict[str, Any]]:
    """The examples, and each workflow in the README and in the docs, by where it stands."""
    found = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "examples" / "workflows").glob("*.yml")}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        found |= {f"{page.name} {number}": text for number, text in enumerate(blocks) if "uses:" in text}
    return {name: yaml.safe_load(text) for name, text in found.items()}


def jobs_of(workflow: dict[str, Any]) -> list[dict[str, Any]]:
    return list(workflow["jobs"].values())


@pytest.mark.parametrize("name", list(workflows()))
def test_workflow__G5_asks_for_no_more_rights_than_it_needs(name: str) -> None:
    workflow = workflows()[name]

    for job in jobs_of(workflow):
        rights = job.get("permissions", workflow.get("permissions"))
        assert rights is not None, "without a list the repository's default holds, which may be everything"
        assert all(RIGHTS.get(right) == level for right, level in rights.items())
    at_large = workflow.get("permissions", {})
    assert at_large == {} or len(jobs_of(workflow)) == 1


@pytest.mark.parametrize("name", list(workflows()))
def test_workflow__G6_runs_others_actions_by_their_commit(name: str) -> None:
    used = [step["uses"] for job in jobs_of(workflows()[name]) for step in job["steps"] if "uses" in step]

    assert OURS in used
    for action in used:
        assert action == OURS or re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action


def test_action_yml__G6_uses_no_other_action_and_downloads_nothing() -> None:
    steps = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]

    assert [step for step in steps if "uses" in step] == []
    assert not any(re.search(r"curl|wget|pip|npm", step["run"]) for step in steps)


@pytest.mark.parametrize("name", list(workflows()))
def test_workflow__G9_leaves_no_credentials_in_the_checkout(name: str) -> None:
    for job in jobs_of(workflows()[name]):
        for step in job["steps"]:
            if str(step.get("uses", "")).startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_workflows__there_are_some() -> None:
    assert {"prompts.yml", "monorepo.yml", "nightly.yml"} <= set(workflows())
    assert any(name.startswith("README.md") for name in workflows())
    assert Path(ROOT / "action.yml").is_file()
