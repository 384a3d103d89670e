"""`prpm test --local` with baselines and reports, `prpm score` and `prpm verify`: outcomes as files, no service."""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evals.archives import snapshot_id
from evals.folders import read_folder
from tests.integration.test_cli_local import prpm
from tests.standins.model_server import ModelServer, model_server_in_thread

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def models() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "polite"
    folder.mkdir()
    (folder / "polite.md").write_text("Say hello.\n")
    (folder / "prpm.json").write_text(
        json.dumps(
            {"name": "polite", "version": "1.0.0", "description": "Polite.", "format": "claude", "subtype": "rule",
             "files": ["polite.md"]}
        )
    )  # fmt: skip
    return folder


def write_suite(folder: Path, *cases: dict[str, Any]) -> None:
    check = [{"type": "contains", "value": "hello"}]
    tests = [{"description": f"Case {n}", "input": f"Hi {n}", "assert": check} | case for n, case in enumerate(cases)]
    (folder / "prpm.test.json").write_text(json.dumps({"tests": tests}))


def run(home: Path, models: ModelServer, *options: str) -> Any:
    return prpm(home, "test", "polite", "--local", "-m", "mock-a", *options, local_url=models.url)


@pytest.fixture
def baseline(tmp_path: Path, models: ModelServer, package: Path) -> Path:
    """Two cases, ten trials each, all passed."""
    write_suite(package, {"repeat": 10}, {"repeat": 10})
    models.mock.answers.extend(["hello"] * 20)
    ran = run(tmp_path, models, "--all-repeats", "--output", "old.json")
    assert ran.returncode == 0, ran.stderr
    return tmp_path / "old.json"


def test_baseline__regression_is_run_again_named_and_fails(
    tmp_path: Path, models: ModelServer, package: Path, baseline: Path
) -> None:
    write_suite(package, {}, {})
    models.mock.reset()
    models.mock.answers.extend(["no"] * 16)

    ran = run(tmp_path, models, "--baseline", "old.json")

    assert "❌ Case 0 (0%)\n   regressed: 10 of 10 passed before, 0 of 7 when run again (p 5.1e-05)\n" in ran.stdout
    assert (
        """\
📐 Against the baseline:

   2 regressed
   20 trials before; 14 run again
   Decided by regressions: a failure that the baseline explains does not count.
   Conclusion: failed
"""
        in ran.stdout
    )
    assert ran.returncode == 1
    assert models.mock.requests == 16


def test_baseline__one_unlucky_answer_is_no_regression(
    tmp_path: Path, models: ModelServer, package: Path, baseline: Path
) -> None:
    write_suite(package, {}, {})
    models.mock.reset()
    models.mock.answers.extend(["no", "no", *["hello"] * 14])

    ran = run(tmp_path, models, "--baseline", "old.json", "--json")

    document = json.loads(ran.stdout)
    assert [row["change"]["status"] for row in document["test_cases"]] == ["flaky", "flaky"]
    assert (document["conclusion"], document["comparison"]["rule"]) == ("passed", "regressions")
    assert ran.returncode == 0


def test_baseline__that_knows_too_little_leaves_the_gate_to_failures(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    write_suite(package, {})
    models.mock.answers.extend(["hello", "no"])
    run(tmp_path, models, "--output", "old.json")

    ran = run(tmp_path, models, "--baseline", "old.json")

    assert "   not enough data: 1 of 1 passed before, so a failure counts\n" in ran.stdout
    assert "Decided by failures" in ran.stdout
    assert ran.returncode == 1


def test_baseline__quarantined_failure_is_shown_and_does_not_gate(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    write_suite(package, {}, {"quarantine": True})
    models.mock.answers.extend(["hello", "no"])

    ran = run(tmp_path, models)

    assert "❌ Case 1 (0%) · in quarantine\n" in ran.stdout
    assert ran.returncode == 0


def test_base__runs_the_package_as_it_was_for_rows_that_failed_and_nothing_else(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    shutil.copytree(package, tmp_path / "before")
    (tmp_path / "before" / "polite.md").write_text("Always say hello.\n")
    write_suite(package, {}, {})
    models.mock.answers.extend(["hello", "no", *["hello"] * 7, *["no"] * 7])

    ran = run(tmp_path, models, "--base", "before", "--output", "o.json")

    assert "   regressed: 7 of 7 passed before, 0 of 7 when run again (p 0.00029)\n" in ran.stdout
    assert "   7 trials before (7 of them made now with the package as it was); 7 run again\n" in ran.stdout
    assert ran.returncode == 1
    told = [body["messages"][0]["content"] for body in models.mock.last_bodies]
    assert ["Always" in text for text in told] == [False] * 2 + [True] * 7 + [False] * 7
    again = prpm(tmp_path, "score", "o.json", "--output", "again.json", local_url=NOWHERE)
    assert "Every verdict is the stored one" in again.stderr
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "o.json").read_bytes()


def test_base__that_fails_as_often_makes_no_regression(tmp_path: Path, models: ModelServer, package: Path) -> None:
    shutil.copytree(package, tmp_path / "before")
    write_suite(package, {})
    models.mock.answers.extend(["no", *["no"] * 4, *["hello"] * 3, *["no"] * 5, "hello", "hello"])

    ran = run(tmp_path, models, "--base", "before", "--json")

    document = json.loads(ran.stdout)
    assert [row["change"]["status"] for row in document["test_cases"]] == ["flaky"]
    assert (document["conclusion"], ran.returncode) == ("passed", 0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--baseline", "missing.json"], "missing.json cannot be read"),
        (["--baseline", "polite/prpm.json"], "polite/prpm.json is not an outcome of `prpm test`"),
        (["--base", "./nowhere"], "There is no folder or archive './nowhere'"),
        (["--output", "out.pdf"], "out.pdf has no extension of a report; known are"),
        (["--output", "no/such/out.xml"], "the folder no/such is not there"),
    ],
)
def test_files__that_cannot_be_used_are_refused_before_anything_is_run(
    tmp_path: Path, models: ModelServer, package: Path, options: list[str], error: str
) -> None:
    write_suite(package, {})

    ran = run(tmp_path, models, *options)

    assert error in ran.stderr
    assert ran.returncode == 2
    assert models.mock.requests == 0
    assert "Traceback" not in ran.stderr


def test_output__writes_each_format_by_its_extension(tmp_path: Path, models: ModelServer, package: Path) -> None:
    write_suite(package, {}, {})
    models.mock.answers.extend(["hello", "no"])
    names = ["o.json", "o.xml", "o.md", "o.txt", "o.html"]

    ran = run(tmp_path, models, *(part for name in names for part in ("--output", name)))

    assert ran.returncode == 1
    assert "📄 junit report: o.xml\n" in ran.stderr
    cases = ET.parse(tmp_path / "o.xml").getroot().iter("testcase")  # noqa: S314 - our own report
    assert [(case.get("classname"), case.get("name"), len(case)) for case in cases] == [
        ("mock-a", "Case 0", 0),
        ("mock-a", "Case 1", 2),
    ]
    assert (tmp_path / "o.md").read_text().startswith("# ❌ Failed: 1 of 2 passed, 1 failed\n")
    assert (tmp_path / "o.txt").read_text().startswith("FAILED: 1 of 2 passed, 1 failed\n")
    assert (tmp_path / "o.html").read_text().startswith("<!doctype html>")
    assert not list(tmp_path.glob(".o.*")), "no half-written file is left"
    document = json.loads((tmp_path / "o.json").read_bytes())
    assert document["provenance"]["package"] == "polite"


def test_score__judges_stored_answers_again_with_no_network_byte_for_byte(
    tmp_path: Path, models: ModelServer, package: Path, baseline: Path
) -> None:
    write_suite(package, {"repeat": 3, "pass_rate": 0.5}, {})
    models.mock.reset()
    models.mock.answers.extend(["hello", "no", "no", "no", "no", *["hello"] * 3])
    run(tmp_path, models, "--baseline", "old.json", "--output", "new.json")

    ran = prpm(tmp_path, "score", "new.json", "--output", "again.json", local_url=NOWHERE)

    assert "🔁 Every verdict is the stored one." in ran.stderr
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new.json").read_bytes()


def test_score__answer_that_was_changed_is_judged_as_it_is_now(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    write_suite(package, {})
    models.mock.answers.append("hello")
    run(tmp_path, models, "--output", "o.json")
    path = tmp_path / "o.json"
    path.write_text(path.read_text().replace('"response":"hello"', '"response":"bye"'))

    ran = prpm(tmp_path, "score", "o.json", local_url=NOWHERE)

    assert "⚠️  Judged otherwise now: Case 0 · mock-a (passed before, failed now)" in ran.stderr
    assert ran.returncode == 1


def test_verify__own_outcome_holds_and_a_changed_one_does_not(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    write_suite(package, {})
    models.mock.answers.append("hello")
    run(tmp_path, models, "--output", "o.json")

    good = prpm(tmp_path, "verify", "o.json", local_url=NOWHERE)
    (tmp_path / "bad.json").write_text((tmp_path / "o.json").read_text().replace('"passed":true', '"passed":null', 1))
    bad = prpm(tmp_path, "verify", "bad.json", local_url=NOWHERE)

    assert good.returncode == 0
    assert good.stdout.startswith("✅ o.json is as it was signed.\n")
    assert bad.returncode == 1
    assert "bad.json: The document was changed after it was signed" in bad.stderr
    assert (tmp_path / ".prpm-signing-key").stat().st_mode & 0o777 == 0o600


def test_verify__somebody_elses_signature_is_not_taken_for_ones_own(
    tmp_path: Path, models: ModelServer, package: Path
) -> None:
    write_suite(package, {})
    models.mock.answers.append("hello")
    run(tmp_path, models, "--output", "o.json")
    (other := tmp_path / "other").mkdir()
    key = json.loads((tmp_path / "o.json").read_text())["signature"]["key"]

    unknown = prpm(other, "verify", "../o.json", local_url=NOWHERE)
    named = prpm(other, "verify", "../o.json", "--key", key, "--json", local_url=NOWHERE)

    assert unknown.returncode == 2
    assert f"   - signed by {key}\n" in unknown.stderr
    assert named.returncode == 0
    assert json.loads(named.stdout) == {"verified": True, "key": key}
    assert not os.path.exists(other / ".prpm-signing-key")


def test_verify__unsigned_document_says_how_to_get_a_signed_one(tmp_path: Path) -> None:
    (tmp_path / "plain.json").write_text("{}")

    ran = prpm(tmp_path, "verify", "plain.json", local_url=NOWHERE)

    assert "The document is not signed. `prpm test ... --output outcome.json` signs what it writes." in ran.stderr
    assert ran.returncode == 2


def test_outcome__names_the_snapshot_as_the_service_does(tmp_path: Path, models: ModelServer, package: Path) -> None:
    write_suite(package, {})
    models.mock.answers.append("hello")

    run(tmp_path, models, "--output", "now.json")

    stored = json.loads((tmp_path / "now.json").read_text())
    assert stored["provenance"]["snapshot"] == snapshot_id(read_folder(package))


@pytest.mark.parametrize("name", ["branch:main", "version:1.0.0", "job:0", "none"])
def test_baseline__that_only_the_service_knows_is_refused_by_name(
    tmp_path: Path, models: ModelServer, package: Path, name: str
) -> None:
    write_suite(package, {})

    ran = run(tmp_path, models, "--baseline", name)

    assert ran.stderr == f"❌ Only the service knows {name}: leave out --local, or name the file of a stored outcome.\n"
    assert (ran.returncode, models.mock.requests) == (2, 0)
