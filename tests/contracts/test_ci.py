"""What every CI provider promises, tried on each that the registry finds. A new one edits nothing here."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import pytest

from action_entry.ci import Ci, Surroundings, find_ci, providers
from action_entry.errors import Misused
from action_entry.inputs import INPUTS
from notifiers._annotations import Annotation
from tests.notices import HOSTILE
from tests.runners import read_commands

HERE = {"github-actions": {"GITHUB_ACTIONS": "true"}, "gitlab-ci": {"GITLAB_CI": "true"}, "local": {}}


@pytest.fixture(params=sorted(providers()))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def provider(name: str, folder: Path, **environ: str) -> tuple[Ci, io.StringIO]:
    out = io.StringIO()
    return providers()[name](Surroundings(environ=environ, folder=folder, out=out)), out


def test_ci__is_described(name: str) -> None:
    assert (providers()[name].__doc__ or "").strip().partition("\n")[0].endswith(".")


def test_ci__an_empty_environment_is_an_event_or_a_sentence(name: str, tmp_path: Path) -> None:
    ci, _ = provider(name, tmp_path)

    with suppress(Misused):
        event = ci.event()
        assert event.run_key
        assert event.change is None


def test_ci__hostile_variables_are_an_event_or_a_sentence(name: str, tmp_path: Path) -> None:
    for text in HOSTILE:
        clean = text.replace("\0", "").encode("utf-8", "replace").decode()
        names = ("GITHUB_SHA", "GITHUB_REF", "GITHUB_RUN_ID", "GITHUB_REPOSITORY_ID", "CI_COMMIT_SHA", "CI_PROJECT_ID",
                 "CI_MERGE_REQUEST_IID", "CI_COMMIT_REF_NAME", "CI_JOB_ID")  # fmt: skip
        ci, _ = provider(name, tmp_path, **dict.fromkeys(names, clean))
        assert ci.event().change is None


def test_ci__knows_every_input(name: str, tmp_path: Path) -> None:
    ci, _ = provider(name, tmp_path)

    assert set(ci.inputs([word.name for word in INPUTS])) == {word.name for word in INPUTS}


def test_ci__writes_to_its_own_places_only_what_it_was_told(name: str, tmp_path: Path) -> None:
    ci, out = provider(name, tmp_path)

    ci.mask("secret")
    ci.begin_group("a group")
    ci.quote(["a line"])
    ci.end_group()
    ci.warn("a warning")
    ci.fail("a failure")
    ci.annotate([Annotation(path="a.yaml", line=3, level="failure", title="Failed x", message="y")])
    ci.write_summary("# results")
    ci.write_outputs({"passed": "true", "job-id": "a\nb"})

    text = out.getvalue()
    assert all(said in text for said in ("a group", "a line", "a warning", "a failure", "Failed x"))


@pytest.mark.parametrize("text", [*HOSTILE, "::set-output name=x::y", "##[group]x"])
def test_ci__G4_words_of_others_are_lines_and_no_commands(name: str, tmp_path: Path, text: str) -> None:
    ci, out = provider(name, tmp_path)

    ci.quote([text])
    ci.warn(text)
    ci.begin_group(text)
    ci.annotate([Annotation(path="a.yaml", line=3, level="failure", title=text, message=text)])

    said = out.getvalue().encode("utf-8", "replace").decode()
    commands = [one.name for one in read_commands(said.splitlines())] if name == "github-actions" else []
    assert set(commands) <= {"warning", "group", "error"}
    assert len(commands) <= 3
    if name != "gitlab-ci":  # its own sections begin with this
        assert "\x1b" not in said


def test_ci__the_one_that_is_here_is_found(name: str, tmp_path: Path) -> None:
    surroundings = Surroundings(environ=HERE.get(name, {}), folder=tmp_path, out=io.StringIO())

    if name in HERE:
        assert find_ci(surroundings).name == name
