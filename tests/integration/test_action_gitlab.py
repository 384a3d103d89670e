"""The same program in a job of GitLab CI: its variables, its log, its places for results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.runners import ENTRY, HEAD, a_package
from tests.standins.gitlab import GitLab
from tests.standins.testing_service import ID_TOKEN, MARKER, TOKEN, HostedTesting, a_failed_row, a_row


@pytest.fixture
def service() -> Iterator[HostedTesting]:
    with HostedTesting().running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def gitlab() -> Iterator[GitLab]:
    with GitLab().running() as running:
        yield running
        assert running.violations == []


@dataclass
class Job:
    """A job of a merge request's pipeline."""

    folder: Path
    environ: dict[str, str] = field(default_factory=dict)

    def run(self) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-I", "-S", "-W", "error", str(ENTRY)],
            env=self.environ, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    @property
    def outputs(self) -> dict[str, str]:
        lines = (self.folder / "prpm.env").read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def job(tmp_path: Path, service: HostedTesting, gitlab: GitLab) -> Job:
    a_package(tmp_path)
    return Job(
        folder=tmp_path,
        environ={
            "PATH": "/usr/bin:/bin",
            "GITLAB_CI": "true",
            "CI_PROJECT_DIR": str(tmp_path),
            "CI_PROJECT_ID": "7",
            "CI_PROJECT_PATH": "acme/prompts",
            "CI_PIPELINE_ID": "100",
            "CI_JOB_ID": "1000",
            "CI_PIPELINE_SOURCE": "merge_request_event",
            "CI_COMMIT_SHA": "dead" * 10,
            "CI_COMMIT_REF_NAME": "feature",
            "CI_MERGE_REQUEST_IID": "12",
            "CI_MERGE_REQUEST_PROJECT_ID": "7",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "7",
            "CI_MERGE_REQUEST_PROJECT_PATH": "acme/prompts",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": HEAD,
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "feature",
            "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": "f00d" * 10,
            "CI_API_V4_URL": f"{gitlab.url}/api/v4",
            "PRPM_SERVER_URL": service.url,
            "PRPM_API_TOKEN": TOKEN,
            "PRPM_GITLAB_TOKEN": gitlab.token,
        },
    )


def test_gitlab__a_merge_request_gets_a_note_and_a_status(job: Job, service: HostedTesting, gitlab: GitLab) -> None:
    service.rows = [a_row("Says hello"), a_failed_row("Says goodbye")]

    ran = job.run()

    assert (ran.returncode, ran.stderr) == (1, "")
    (note,) = gitlab.ours()
    assert note.startswith(f"<!-- prpm-testing:v1 mac={MARKER} ")
    assert [(status["sha"], status["state"]) for status in gitlab.statuses] == [(HEAD, "failed")]
    (sent,) = service.submitted()
    assert (sent["change"]["forge"], sent["change"]["pull_request"], sent["change"]["head_sha"]) == ("gitlab", 12, HEAD)
    assert "prpm.test.yaml:5: Failed: Says goodbye" in ran.stdout
    assert "section_start:" in ran.stdout


def test_gitlab__outputs_are_a_dotenv_file(job: Job) -> None:
    job.run()

    assert job.outputs["PRPM_PASSED"] == "true"
    assert job.outputs["PRPM_REPORT_PATH"] == str(job.folder / "prpm-reports")
    assert (job.folder / "prpm-reports" / "acme-greeter.xml").exists()


def test_gitlab__the_jobs_identity_is_exchanged(job: Job, service: HostedTesting) -> None:
    del job.environ["PRPM_API_TOKEN"]
    job.environ["PRPM_ID_TOKEN"] = ID_TOKEN

    ran = job.run()

    assert (ran.returncode, service.exchanged) == (0, [ID_TOKEN])
    assert ID_TOKEN not in ran.stdout


def test_gitlab__a_fork_is_green(job: Job, service: HostedTesting) -> None:
    del job.environ["PRPM_API_TOKEN"]
    job.environ["CI_MERGE_REQUEST_SOURCE_PROJECT_ID"] = "99"

    ran = job.run()

    assert (ran.returncode, service.log) == (0, [])
    assert "comes from a fork" in ran.stdout


def test_gitlab__without_a_token_of_its_own_nothing_is_written_there(job: Job, gitlab: GitLab) -> None:
    del job.environ["PRPM_GITLAB_TOKEN"]

    ran = job.run()

    assert (ran.returncode, gitlab.log) == (0, [])


def test_gitlab__a_monorepo_by_its_clone(job: Job, service: HostedTesting) -> None:
    for name in ("one", "two"):
        a_package(job.folder / "packages" / name, f"@acme/{name}")
    base = commit(job.folder)
    (job.folder / "packages" / "two" / "greeter.md").write_text("Another text.\n")
    head = commit(job.folder)
    job.environ |= {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base, "CI_MERGE_REQUEST_SOURCE_BRANCH_SHA": head}
    job.environ["PRPM_PATH"] = "packages/*"
    del job.environ["PRPM_GITLAB_TOKEN"]

    ran = job.run()

    assert (ran.returncode, len(service.jobs)) == (0, 1)
    assert "@acme/two" in ran.stdout


def commit(folder: Path) -> str:
    who = ["-c", "user.name=alice", "-c", "user.email=alice@example.org"]
    for command in (["init", "-q", "."], ["add", "-A"], [*who, "commit", "-qm", "state"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_gitlab__a_retried_job_is_the_same_event_and_a_schedule_is_not(job: Job, service: HostedTesting) -> None:
    job.run()
    job.environ["CI_JOB_ID"] = "1001"
    job.run()
    job.environ["CI_PIPELINE_SOURCE"] = "schedule"
    job.run()

    assert [sent["change"]["cause"] for sent in service.submitted()] == ["head", "head", "job:1001"]
