"""The Action's step against the running service: keyless, the gate, and who reports. Nothing is canned here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.organizations import Organization, an_organization
from tests.runners import SUITE, Step, a_package, a_pull_request, a_push
from tests.service import Service, in_loop, start_service
from tests.standins.github import GitHub
from tests.standins.issuer import RunnerIssuer

PASSING = SUITE.replace("Hello!", "hello there").replace("Bye!", "bye then")
OWNER_ID = 70


@pytest.fixture(scope="module")
def issuer() -> Iterator[RunnerIssuer]:
    with RunnerIssuer(repository_id="7", repository_owner_id=str(OWNER_ID)).running() as running:
        yield running


@pytest.fixture(scope="module")
def keyless(
    admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory, issuer: RunnerIssuer
) -> Iterator[Service]:
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("action")
    yield from start_service(dsn=dsn, redis_url=redis_url, folder=folder, PRPM_OIDC_ISSUERS=f"github={issuer.url}")


@pytest.fixture(scope="module")
def org(keyless: Service, issuer: RunnerIssuer) -> Organization:
    """An organisation to which the repository 7 is linked."""
    made = an_organization(keyless)
    link = {"account": made.name, "repository": "acme/prompts", "repository_id": 7, "owner_id": OWNER_ID}
    admin = keyless.an_account(is_admin=True)
    assert admin.client.post("/api/v1/trusted-repositories", json=link).status_code == 201
    return made


@pytest.fixture
def github() -> Iterator[GitHub]:
    stand_in = GitHub()
    stand_in.login = "github-actions[bot]"
    with stand_in.running() as running:
        yield running
        assert running.violations == []


@pytest.fixture
def step(tmp_path: Path, keyless: Service, issuer: RunnerIssuer, github: GitHub, org: Organization) -> Step:
    """A pull request of a package of this test's own, without any key."""
    made = Step(folder=tmp_path)
    name = f"@acme/greeter-{uuid.uuid4().hex[:8]}"
    a_package(made.workspace, name)
    made.event = a_pull_request(head=uuid.uuid4().hex + "0" * 8)
    made.inputs = {"server-url": keyless.url, "github-token": github.token}
    made.environ = {"GITHUB_API_URL": github.url, "WORKFLOW_TOKEN": github.token} | issuer.environ
    return made


def test_action__keyless_on_the_service(step: Step, keyless: Service, github: GitHub, org: Organization) -> None:
    """The run's own identity is all there is: the organisation is billed, and its members see the job."""
    ran = step.run()

    assert ran.code == 1, ran.log
    (comment,) = github.ours()
    assert "2 failures" in comment
    job = org.member.client.get(f"/api/v1/test-jobs/{ran.outputs['job-id']}").json()
    assert job["report"]["reporter"] == "action"
    assert comment.startswith(f"<!-- prpm-testing:v1 mac={job['report']['marker']} ")
    assert "prpm_" not in ran.log.replace("::add-mask::prpm_", "")


def test_action__keyless_by_a_repository_that_is_not_linked(step: Step, issuer: RunnerIssuer) -> None:
    """A9: the sentence has the command that links it."""
    issuer.run |= {"repository_id": "8"}
    try:
        ran = step.run()
    finally:
        issuer.run |= {"repository_id": "7"}

    assert ran.code == 2
    assert "prpm trust add acme/prompts" in ran.summary


def test_action__the_same_comment_is_edited_by_the_repair(step: Step, github: GitHub) -> None:
    """`previous` and `marker` come from the service: the second push finds the comment and tells of the repair."""
    step.run()
    (step.workspace / "prpm.test.yaml").write_text(PASSING)
    step.event = a_pull_request(head=uuid.uuid4().hex + "1" * 8)

    ran = step.run()

    assert ran.code == 0, ran.log
    (comment,) = github.ours()
    assert "all 2 rows passed" in comment


GATES = {
    "never": ({"fail-on": "never"}, 0, "success", "fail-on is `never`"),
    "failures": ({"fail-on": "failures"}, 1, "failure", "2 failures"),
    "no baseline": ({"fail-on": "regressions", "baseline": "none"}, 1, "failure", "2 failures"),
}


@pytest.mark.parametrize("case", list(GATES))
def test_action__step_and_check_and_service_conclude_the_same(
    step: Step, github: GitHub, org: Organization, case: str
) -> None:
    inputs, code, conclusion, said = GATES[case]
    step.inputs |= inputs

    ran = step.run()

    assert ran.code == code, ran.log
    assert said in ran.log
    job = org.member.client.get(f"/api/v1/test-jobs/{ran.outputs['job-id']}").json()
    assert job["conclusion"] == {"success": "passed", "failure": "failed"}[conclusion]
    (check,) = github.check_runs.values()
    assert check["conclusion"] == conclusion


def test_action__min_score_is_judged_by_the_service(step: Step, github: GitHub, org: Organization) -> None:
    """Two assertions of which one fails by weight: the row passes with half its score."""
    suite = (
        "tests:\n  - description: Half\n    input: hello\n    threshold: 0.4\n"
        "    assert: [{type: contains, value: hello}, {type: contains, value: nowhere}]\n"
    )
    (step.workspace / "prpm.test.yaml").write_text(suite)
    step.inputs |= {"min-score": "0.8"}

    ran = step.run()

    assert ran.code == 1, ran.log
    assert "the score is 50 %, below min-score 0.8" in ran.log
    results = org.member.client.get(f"/api/v1/test-jobs/{ran.outputs['job-id']}/results").json()
    assert (results["gate"]["decided_by"], results["summary"]["conclusion"]) == ("min_score", "failed")
    (check,) = github.check_runs.values()
    assert check["conclusion"] == "failure"


def test_action__where_the_app_reports_the_step_writes_nothing_there(
    step: Step, keyless: Service, github: GitHub, org: Organization
) -> None:
    keyless.fetch("INSERT INTO reported_repositories VALUES ('github', 7, $1)", org.id)
    try:
        ran = step.run()
    finally:
        keyless.fetch("DELETE FROM reported_repositories WHERE account_id = $1", org.id)

    assert ran.code == 1
    assert (github.ours(), github.check_runs) == ([], {})
    assert "The prpm App reports on this change." in ran.summary


def test_action__a_push_is_compared_with_nothing_but_the_past_of_its_branch(
    step: Step, github: GitHub, issuer: RunnerIssuer
) -> None:
    step.event_name, step.event = "push", a_push()
    issuer.run |= {"event_name": "push", "ref": "refs/heads/main"}
    try:
        ran = step.run()
    finally:
        del issuer.run["event_name"], issuer.run["ref"]

    assert ran.code == 1
    assert (github.ours(), len(github.check_runs)) == ([], 1)


def test_action__several_packages_of_one_folder_are_jobs_of_their_own(
    step: Step, github: GitHub, org: Organization
) -> None:
    """Each with its own files, history and comment; the service keeps three snapshots of one folder."""
    unique = uuid.uuid4().hex[:8]
    about = {"version": "1.0.0", "description": "Greets", "format": "generic", "subtype": "prompt"}
    names = [f"@acme/{word}-{unique}" for word in ("one", "two", "three")]
    entries = [{"name": name, **about, "files": [f"{name[6:]}.md"]} for name in names]
    (step.workspace / "prpm.json").write_text(json.dumps({"packages": entries}))
    for name in names:
        (step.workspace / f"{name[6:]}.md").write_text(f"You are {name}.\n")
    github.files = ["prpm.json"]

    ran = step.run()

    assert ran.code == 1, ran.log
    jobs = [org.member.client.get(f"/api/v1/test-jobs/{job}").json() for job in ran.outputs["job-id"].split()]
    assert [job["package"]["name"] for job in jobs] == names
    assert len({job["package"]["version"] for job in jobs}) == 3
    assert len(github.ours()) == 3


def test_action__bills_the_account_that_is_named(step: Step, org: Organization) -> None:
    """With a person's token: the folder is kept for the organisation, or its job could not be run."""
    for name in ("ACTIONS_ID_TOKEN_REQUEST_URL", "ACTIONS_ID_TOKEN_REQUEST_TOKEN"):
        del step.environ[name]
    step.inputs |= {"api-token": org.member.token, "account": org.name}

    ran = step.run()

    assert ran.code == 1, ran.log
    job = org.owner.client.get(f"/api/v1/test-jobs/{ran.outputs['job-id']}").json()
    assert job["conclusion"] == "failed"
