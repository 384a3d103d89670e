"""`prpm test --case`, `--failed` and `--watch`: an author at work on one case, on a model server of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli_local import prpm
from tests.standins.model_server import ModelServer, model_server_in_thread

PRPM = Path(sys.executable).parent / "prpm"


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with three cases, which all want a hello."""
    folder = tmp_path / "polite"
    folder.mkdir()
    (folder / "polite.md").write_text("Say hello.\n")
    manifest = {"name": "polite", "version": "1.0.0", "description": "Polite.", "format": "claude", "subtype": "rule",
                "files": ["polite.md"]}  # fmt: skip
    (folder / "prpm.json").write_text(json.dumps(manifest))
    check = [{"type": "contains", "value": "hello"}]
    titles = ("Greets", "Greets twice", "Says thanks")
    tests = [{"description": title, "input": title, "assert": check} for title in titles]
    (folder / "prpm.test.json").write_text(json.dumps({"tests": tests}))
    return folder


def run(home: Path, models: ModelServer, *options: str) -> tuple[int, list[str], str]:
    """Exit code, titles of the rows, all that was said on stderr."""
    ran = prpm(home, "test", "polite", "--local", "-m", "mock-a", "--json", *options, local_url=models.url)
    document = json.loads(ran.stdout)
    return ran.returncode, [row["title"] for row in document.get("test_cases", [])], document.get("error", ran.stderr)


@pytest.mark.parametrize(
    ("options", "titles"),
    [
        (["--case", "thanks"], ["Says thanks"]),
        (["--case", "GREETS"], ["Greets"]),  # a whole title is that case alone
        (["--case", "greet"], ["Greets", "Greets twice"]),
        (["--case", "thanks", "--case", "twice"], ["Greets twice", "Says thanks"]),
    ],
)
def test_case__runs_the_cases_whose_titles_hold_the_text(
    tmp_path: Path, models: ModelServer, package: Path, options: list[str], titles: list[str]
) -> None:
    models.mock.answers.extend(["hello"] * 3)

    assert run(tmp_path, models, *options)[:2] == (0, titles)


def test_case__a_text_in_no_title_is_an_error_that_lists_the_titles(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    ran = prpm(tmp_path, "test", "polite", "--local", "-m", "mock-a", "--case", "insults", local_url=models.url)

    assert ran.returncode == 2
    assert "❌ No case's title holds 'insults'." in ran.stderr
    assert "   - cases: Says thanks" in ran.stderr


def test_failed__runs_what_did_not_pass_until_everything_does(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    models.mock.answers.extend(["no", "hello", "no"])
    first = run(tmp_path, models)
    models.mock.answers.extend(["hello", "no"])
    second = run(tmp_path, models, "--failed")
    models.mock.answers.extend(["hello"])
    third = run(tmp_path, models, "--failed")
    fourth = run(tmp_path, models, "--failed")

    assert first[0] == second[0] == 1
    assert second[1] == ["Greets", "Says thanks"]
    assert len(third[1]) == 1
    assert third[0] == 0
    assert fourth == (0, [], "✅ Nothing to run: every case passed the last time.\n")


def test_failed__a_run_of_one_case_leaves_what_is_known_of_the_others(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    models.mock.answers.extend(["no", "no", "no"])
    run(tmp_path, models)
    models.mock.answers.extend(["hello"])
    run(tmp_path, models, "--case", "thanks")
    models.mock.answers.extend(["hello", "hello"])

    assert run(tmp_path, models, "--failed")[:2] == (0, ["Greets", "Greets twice"])


def test_failed__without_an_earlier_run_says_so(tmp_path: Path, models: ModelServer, package: Path) -> None:
    code, _, error = run(tmp_path, models, "--failed")

    assert code == 2
    assert error == "--failed needs an earlier run of this package from this machine. Run it once without."


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b'{"subject": 1}'])
def test_failed__a_damaged_memory_is_no_memory(
    tmp_path: Path, models: ModelServer, package: Path, damage: bytes
) -> None:
    models.mock.answers.extend(["no"] * 3)
    run(tmp_path, models)
    (kept,) = (tmp_path / ".cache" / "prpm-testing").glob("*.json")
    kept.write_bytes(damage)

    assert run(tmp_path, models, "--failed")[0] == 2


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--case", "a", "--failed"], "--case and --failed each choose the cases: give one of them."),
        (["--case", "a", "-u"], "Some cases alone say too little about a package to be uploaded. Leave out -u and -v."),
        (["--watch", "--json"], "--watch is for people; leave out --json."),
    ],
)
def test_options__that_contradict_each_other_are_refused(
    tmp_path: Path, models: ModelServer, package: Path, options: list[str], sentence: str
) -> None:
    ran = prpm(tmp_path, "test", "polite", "--local", *options, local_url=models.url)

    assert ran.returncode == 2
    assert sentence in ran.stdout + ran.stderr


def test_watch__a_package_by_name_cannot_be_watched(tmp_path: Path, models: ModelServer) -> None:
    ran = prpm(tmp_path, "test", "@alice/review", "--local", "--watch", local_url=models.url)

    assert (ran.returncode, ran.stderr) == (2, "❌ --watch looks at a folder: name the package's folder.\n")


def test_watch__a_change_runs_again_a_mistake_is_told_and_ctrl_c_ends_it(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    models.mock.answers.extend(["no", "hello", "hello", *["hello"] * 3])
    suite = (package / "prpm.test.json").read_text()
    said = tmp_path / "said.txt"
    environment = {"PATH": "", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "PRPM_LOCAL_URL": models.url}

    with said.open("wb") as output:
        watching = subprocess.Popen(
            [PRPM, "test", "polite", "--local", "-m", "mock-a", "--watch"],
            env=environment, cwd=tmp_path, stdout=output, stderr=output,
        )  # fmt: skip
        try:
            wait_for(said, "👀 Watching polite:", times=1)
            os.utime(package / "polite.md")  # touched, and as it was
            (package / "prpm.test.json").write_text("{")
            wait_for(said, "👀 Watching polite:", times=2)
            (package / "prpm.test.json").write_text(suite)
            wait_for(said, "👀 Watching polite:", times=3)
            watching.send_signal(signal.SIGINT)
            code = watching.wait(10)
        finally:
            watching.kill()
            watching.wait()

    transcript = said.read_text()
    first, second, third, _ = transcript.split("👀 Watching polite:")
    assert "❌ Greets (0%)" in first
    assert "prpm.test.json" in second
    assert "Traceback" not in transcript
    assert "✅ Greets (100%)" in third
    assert code == 0  # the last run's


def wait_for(file: Path, text: str, *, times: int) -> None:
    deadline = time.monotonic() + 30
    while file.read_text().count(text) < times:
        assert time.monotonic() < deadline, file.read_text()
        time.sleep(0.05)
