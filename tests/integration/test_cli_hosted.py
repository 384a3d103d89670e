"""`prpm test` of folders, archives and suite files by the service's contract, as a process of its own."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.standins.service import (
    JOB_ID,
    SNAPSHOT_ID,
    TOKEN,
    Reply,
    Service,
    a_job,
    a_row,
    a_summary,
)

PRPM = Path(sys.executable).parent / "prpm"
SUITE = """\
tests:
  - description: Greets
    input: Hello
    assert:
      - type: contains
        value: hello
"""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as running:
        yield running


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A working folder with one rule and its suite."""
    folder = tmp_path / "polite"
    (folder / ".cursor" / "rules").mkdir(parents=True)
    (folder / ".cursor" / "rules" / "polite.mdc").write_text("---\ndescription: Be polite.\n---\nSay hello.\n")
    (folder / "prpm.test.yaml").write_text(SUITE)
    manifest = {
        "name": "polite", "version": "1.0.0", "description": "Makes answers polite.", "format": "cursor",
        "subtype": "rule", "files": [".cursor/rules/polite.mdc"],
    }  # fmt: skip
    (folder / "prpm.json").write_text(json.dumps(manifest))
    return folder


def environment(home: Path, service: Service, **more: str) -> dict[str, str]:
    """A logged-in user with an empty home."""
    return {
        "PATH": "", "HOME": str(home), "PRPM_TOKEN": TOKEN, "PRPM_REGISTRY_URL": service.url,
        "LC_ALL": "C.UTF-8", **more,
    }  # fmt: skip


def prpm(home: Path, service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`prpm`, run to its end."""
    return subprocess.run(
        [PRPM, *arguments],
        env=environment(home, service), cwd=home, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def test_prpm_test__a_folder_is_packed_uploaded_and_tested(tmp_path: Path, service: Service, package: Path) -> None:
    ran = prpm(tmp_path, service, "test", "polite")

    (upload,) = service.requests("POST /api/v1/package-snapshots")
    with tarfile.open(fileobj=io.BytesIO(upload.body)) as archive:
        assert sorted(archive.getnames()) == [".cursor/rules/polite.mdc", "prpm.json", "prpm.test.yaml"]
    assert service.submitted()["snapshot_id"] == SNAPSHOT_ID
    assert "package_id" not in service.submitted()
    assert ran.stdout.startswith("🚀 Using PRPM hosted testing (prpm+)\n\n📦 Packed polite (3 files, ")
    assert ran.returncode == 0


def test_prpm_test__an_archive_is_uploaded_as_it_is(tmp_path: Path, service: Service, package: Path) -> None:
    with tarfile.open(tmp_path / "polite.tar.gz", "w:gz") as archive:
        archive.add(package / "prpm.json", "prpm.json")

    ran = prpm(tmp_path, service, "test", "polite.tar.gz")

    (upload,) = service.requests("POST /api/v1/package-snapshots")
    assert upload.body == (tmp_path / "polite.tar.gz").read_bytes()
    assert ran.returncode == 0


def test_prpm_test__a_suite_file_is_sent_as_written(tmp_path: Path, service: Service) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE)

    ran = prpm(tmp_path, service, "test", "@alice/review", "--suite", "mine.yaml")

    assert service.submitted()["suite"] == {
        "tests": [{"description": "Greets", "input": "Hello", "assert": [{"type": "contains", "value": "hello"}]}]
    }
    assert ran.returncode == 0


def test_prpm_test__a_wrong_suite_names_its_line_and_is_not_sent(tmp_path: Path, service: Service) -> None:
    (tmp_path / "mine.yaml").write_text(SUITE.replace("contains", "contians"))

    ran = prpm(tmp_path, service, "test", "@alice/review", "--suite", "mine.yaml")

    assert ran.returncode == 2
    assert "mine.yaml" in ran.stderr
    assert "line 5" in ran.stderr
    assert "contians" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert service.seen == []


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[", b"a: &x 1\nb: *x\n", b"!!python/object:os.x {}", b"7"])
def test_prpm_test__I9_I12_a_suite_that_is_none_is_refused(tmp_path: Path, service: Service, content: bytes) -> None:
    (tmp_path / "mine.yaml").write_bytes(content)

    ran = prpm(tmp_path, service, "test", "@alice/review", "--suite", "mine.yaml", "--json")

    assert ran.returncode == 2
    assert json.loads(ran.stdout)["error"]
    assert "Traceback" not in ran.stderr
    assert service.seen == []


def test_prpm_test__an_empty_folder_says_what_is_missing(tmp_path: Path, service: Service) -> None:
    (tmp_path / "empty").mkdir()

    ran = prpm(tmp_path, service, "test", "./empty")

    assert ran.returncode == 2
    assert "prpm.json" in ran.stderr
    assert service.seen == []


def test_prpm_test__ctrl_c_ends_with_130_and_the_job_id(tmp_path: Path, service: Service) -> None:
    service.set("GET /api/v1/test-jobs/{id}", Reply(a_job("queued")))
    process = subprocess.Popen(
        [PRPM, "test", "@alice/review"],
        env=environment(tmp_path, service), cwd=tmp_path, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    assert service.wait_for("GET /api/v1/test-jobs/{id}")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)

    assert process.returncode == 130
    assert err.startswith(f"❌ Cancelled.\n   Job: {JOB_ID}\n")
    assert "Traceback" not in err


@pytest.mark.parametrize("no_color", [False, True])
def test_prpm_test__colours_and_a_bar_on_a_terminal_only(tmp_path: Path, service: Service, no_color: bool) -> None:
    running = a_job("running", progress={"trials_total": 4, "trials_finished": 1, "passed": 1})
    done = a_job("completed", results=a_summary([a_row("Review")]))
    service.set("GET /api/v1/test-jobs/{id}", Reply(running), Reply(done))
    more = {"TERM": "xterm", "COLUMNS": "100"} | ({"NO_COLOR": "1"} if no_color else {})

    shown, code = on_a_terminal(["test", "@alice/review"], environment(tmp_path, service, **more), cwd=tmp_path)

    assert code == 0
    assert "1/4" in shown
    assert "✅ Test 1: Review function (100%)" in shown
    assert ("\x1b[32m✅ Test 1" in shown) is not no_color


def on_a_terminal(arguments: list[str], environ: dict[str, str], *, cwd: Path) -> tuple[str, int]:
    """What a terminal gets from `prpm`, and the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([PRPM, *arguments], env=environ, cwd=cwd, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        shown += part
    os.close(ours)
    return shown.decode(), process.wait(20)
