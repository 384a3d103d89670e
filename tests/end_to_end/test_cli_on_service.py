"""`prpm test` as users run it, against the whole service: what is printed, and how it ends."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from tests.packages import PASSING_SUITE, a_package, an_archive
from tests.service import Account, Service

PRPM = Path(sys.executable).parent / "prpm"


def prpm(home: Path, service: Service, account: Account | None, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in an empty home, run to its end."""
    environment = {"PATH": "", "HOME": str(home), "PRPM_REGISTRY_URL": service.url, "LC_ALL": "C.UTF-8"}
    if account is not None:
        environment["PRPM_TOKEN"] = account.token
    return subprocess.run(
        [PRPM, *arguments], env=environment, cwd=home, capture_output=True, text=True, timeout=60, check=False
    )


def normalised(text: str, service: Service) -> str:
    """The transcript without what differs from run to run."""
    text = text.replace(service.url, "SERVICE")
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID", text)
    text = re.sub(r"Position in queue: \d+", "Position in queue: N", text)
    text = re.sub(r" +Estimated wait: \d+s\n", "", text)
    text = re.sub(r"Total Duration: [\d.]+s", "Total Duration: N s", text)
    return re.sub(r"[\d.]+ KB", "N KB", text)


def a_folder(home: Path, **kwargs) -> Path:
    """A working folder with one rule and its suite."""
    for path, content in a_package(**kwargs).items():
        (home / "sample" / path).parent.mkdir(parents=True, exist_ok=True)
        (home / "sample" / path).write_bytes(content)
    return home / "sample"


def publish(account: Account, **kwargs) -> str:
    """A published package of the account's, by its name."""
    name = f"@{account.username}/sample"
    answer = account.client.post(
        "/api/v1/packages",
        data={"manifest": json.dumps({"name": name, "version": "1.0.0"})},
        files={"tarball": ("p.tar.gz", an_archive(name, **kwargs), "application/gzip")},
    )
    assert answer.status_code == 200, answer.text
    return name


PUBLISHED = """\
🚀 Using PRPM hosted testing (prpm+)

📤 Submitting test job...

✅ Job submitted (ID: ID)
   Status: queued
   Position in queue: N
   Usage: 1/100 tests this month

⏳ Waiting for results...

✅ Test completed!

📊 Test Results:

✅ says Paris (100%)

📈 Summary:

   Total Tests: 1
   Passed: 1 ✅
   Failed: 0 ❌
   Overall Score: 100.0%
   Total Duration: N s
   Total Tokens: 11
   Cost: $0.0000

🔎 Details: SERVICE/jobs/ID
"""


def test_prpm_test__a_published_package_that_passes(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)

    ran = prpm(tmp_path, service, alice, "test", name)

    assert normalised(ran.stdout, service) == PUBLISHED
    assert ran.stderr.strip(".\n") == ""  # a dot a look, when it takes longer
    assert ran.returncode == 0


FOLDER = """\
🚀 Using PRPM hosted testing (prpm+)

📦 Packed sample (3 files, N KB)

📤 Submitting test job...

✅ Job submitted (ID: ID)
   Status: queued
   Position in queue: N
   Usage: 1/100 tests this month

⏳ Waiting for results...

✅ Test completed!

📊 Test Results:

✅ says Paris (100%)
❌ says Rome (0%)
   contains: the answer does not contain 'Rome'
   Answer: no city at all

📈 Summary:

   Total Tests: 2
   Passed: 1 ✅
   Failed: 1 ❌
   Overall Score: 50.0%
   Total Duration: N s
   Total Tokens: 24
   Cost: $0.0000

🔎 Details: SERVICE/jobs/ID
"""


def test_prpm_test__a_folder_that_fails(tmp_path: Path, service: Service):
    alice = service.an_account()
    a_folder(tmp_path)

    ran = prpm(tmp_path, service, alice, "test", "sample")

    assert normalised(ran.stdout, service) == FOLDER
    assert ran.stderr.strip(".\n") == ""  # a dot a look, when it takes longer
    assert ran.returncode == 1


def test_prpm_test__an_upload_prints_a_link_that_opens(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)

    ran = prpm(tmp_path, service, alice, "test", name, "-u")

    assert ran.returncode == 0, ran.stderr
    link = re.search(r"📊 Results uploaded: (\S+)$", ran.stdout.rstrip())[1]
    page = httpx.get(link, trust_env=False)
    assert page.status_code == 200
    assert alice.username in page.text
    details = re.search(r"🔎 Details: (\S+)", ran.stdout)[1]
    assert alice.client.get(details).status_code == 200


def test_prpm_test__json_is_one_document(tmp_path: Path, service: Service):
    alice = service.an_account()
    a_folder(tmp_path)

    ran = prpm(tmp_path, service, alice, "test", "sample", "--json")

    document = json.loads(ran.stdout)
    assert ran.returncode == 1
    assert uuid.UUID(document["job_id"])
    assert document["conclusion"] == "failed"
    assert document["url"] == f"{service.url}/jobs/{document['job_id']}"
    assert [(row["title"], row["passed"]) for row in document["test_cases"]] == [
        ("says Paris", True),
        ("says Rome", False),
    ]


def test_prpm_test__a_suite_file_comes_before_the_packages_own(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice)
    (tmp_path / "mine.yaml").write_text(
        "tests:\n  - description: mine\n    input: Oslo\n    assert: [{type: equals, value: Oslo}]\n"
    )

    ran = prpm(tmp_path, service, alice, "test", name, "--suite", "mine.yaml", "-m", "echo,priced")

    assert ran.returncode == 0, ran.stderr
    assert "✅ mine (100%) · echo\n✅ mine (100%) · priced\n" in ran.stdout
    assert "Cost: $0.0" in ran.stdout


def test_prpm_test__errors_beside_verdicts_are_inconclusive(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)

    ran = prpm(tmp_path, service, alice, "test", name, "-m", "echo,broken")

    assert ran.returncode == 2
    assert "   Errors: 1 ⚠️\n" in ran.stdout


def test_prpm_test__a_run_that_could_not_be_done_names_the_job(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)

    ran = prpm(tmp_path, service, alice, "test", name, "-m", "broken")

    assert ran.returncode == 1
    assert "❌ Test failed: No test has a verdict: " in ran.stderr
    assert "   Job: ID\n   Look later: SERVICE/jobs/ID\n" in normalised(ran.stderr, service)


def test_prpm_test__a_month_that_is_used_up_says_when_it_goes_on(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 100)",
        alice.id,
    )

    ran = prpm(tmp_path, service, alice, "test", name)

    assert ran.returncode == 2
    assert "prpm Pro" in ran.stderr
    assert ran.stdout.endswith("📤 Submitting test job...\n\n")
    assert service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id) == []


def test_prpm_test__the_free_tier_says_how_to_go_on(tmp_path: Path, service: Service):
    alice, bob = service.an_account(), service.an_account(tier="free")
    name = publish(alice, suite=PASSING_SUITE)

    ran = prpm(tmp_path, service, bob, "test", name)

    assert ran.returncode == 2
    assert ran.stderr.startswith("❌ ")
    assert "prpm subscribe" in ran.stderr
    assert "Traceback" not in ran.stderr


REFUSED = {
    "unknown package": (["@nobody/nothing"], "not found"),
    "unknown model": (["PACKAGE", "-m", "gpt-9"], "gpt-9"),
    "unreachable model": (["PACKAGE", "-m", "keyed"], "cannot be reached"),
    "plugin": (["PACKAGE", "-p", "github"], "plugins"),
    "agent framework": (["PACKAGE", "--framework", "claude-agent"], "framework"),
    "no such version": (["PACKAGE@9.9.9"], "9.9.9"),
    "no such folder": (["./nowhere"], "nowhere"),
}


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("case", REFUSED)
def test_prpm_test__what_cannot_be_run_is_a_sentence_and_exit_2(
    tmp_path: Path, service: Service, case: str, as_json: bool
):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)
    arguments, said = REFUSED[case]

    ran = prpm(
        tmp_path, service, alice, "test", *(a.replace("PACKAGE", name) for a in arguments), *["--json"] * as_json
    )

    assert ran.returncode == 2
    assert "Traceback" not in ran.stderr
    assert said.lower() in (json.dumps(json.loads(ran.stdout)) if as_json else ran.stderr).lower()
    assert service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id) == []


def test_prpm_test__a_token_that_is_none_says_to_log_in(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)
    service.fetch("UPDATE access_tokens SET is_active = FALSE WHERE user_id = $1", alice.id)

    ran = prpm(tmp_path, service, alice, "test", name)

    assert ran.returncode == 2
    assert "prpm login" in ran.stderr
    assert alice.token not in ran.stdout + ran.stderr


def test_prpm_usage_and_whoami__show_what_the_service_knows(tmp_path: Path, service: Service):
    alice = service.an_account()
    name = publish(alice, suite=PASSING_SUITE)
    prpm(tmp_path, service, alice, "test", name)

    usage = prpm(tmp_path, service, alice, "usage")
    whoami = prpm(tmp_path, service, alice, "whoami")
    models = prpm(tmp_path, service, alice, "models")

    assert (usage.returncode, whoami.returncode, models.returncode) == (0, 0, 0)
    assert "Test runs: 1\n   Remaining: 99 of 100\n" in usage.stdout
    assert alice.username in whoami.stdout
    assert {"echo", "slow", "priced"} <= set(models.stdout.split())


def several(home: Path) -> Path:
    """A working folder with two packages in one prpm.json, and a suite for both."""
    folder = home / "several"
    folder.mkdir()
    about = {"version": "1.0.0", "description": "A package.", "format": "generic", "subtype": "prompt"}
    entries = [{"name": name, **about, "files": [f"{name}.md"]} for name in ("one", "two")]
    (folder / "prpm.json").write_text(json.dumps({"packages": entries}))
    for name in ("one", "two"):
        (folder / f"{name}.md").write_text(f"You are {name}.")
    (folder / "prpm.test.json").write_text(json.dumps(PASSING_SUITE))
    return folder


def test_test__of_several_packages_in_a_folder_the_one_that_is_named(service: Service, tmp_path: Path):
    alice, folder = service.an_account(), several(tmp_path)

    undecided = prpm(tmp_path, service, alice, "test", str(folder))
    chosen = prpm(tmp_path, service, alice, "test", str(folder), "--package", "two", "--json")

    assert undecided.returncode == 2
    assert "Say which one (`--package NAME`): `one`, `two`." in undecided.stderr + undecided.stdout
    assert chosen.returncode == 0, chosen.stderr
    (job,) = alice.client.get("/api/v1/test-jobs").json()["jobs"]
    assert job["package"]["name"] == "two"


def test_test__a_published_package_is_one_already(service: Service, tmp_path: Path):
    refused = prpm(tmp_path, service, service.an_account(), "test", "@acme/one", "--package", "one")

    assert refused.returncode == 2
    assert "--package chooses one of a folder's packages" in refused.stderr
