"""Jobs that are compared with their history, over HTTP: a worker, a database, and a model that flips as it is told."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.packages import an_archive
from tests.service import Account, Service, finished_job, in_loop, start_service
from tests.standins.model_server import ModelServer, model_server_in_thread

CASES = 5  # as many as a small run may try anew
CATALOGUE = """
default: told
models:
  told:
    context_tokens: 100000
    deployments: [{{backend: openai_compatible, model: told-a, base_url: "{url}", price: {{input: 1, output: 2}}}}]
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[ModelServer]:
    with model_server_in_thread() as server:
        yield server


@pytest.fixture(scope="module")
def comparing(
    mock: ModelServer, admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of this file's own, whose caches are on."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("comparing")
    catalogue = folder / "models.yaml"
    catalogue.write_text(CATALOGUE.format(url=mock.base_url))
    yield from start_service(
        dsn=dsn, redis_url=redis_url, folder=folder, PRPM_CATALOGUE=str(catalogue), PRPM_CACHE_DAYS="14"
    )


@pytest.fixture
def alice(comparing: Service) -> Account:
    return comparing.an_account(tier="pro")


def a_suite(cases: int = CASES, **changes: Any) -> dict[str, Any]:
    return {
        "tests": [
            {
                "description": f"Case {number}",
                "input": f"case {number:04}",
                "assert": [{"type": "contains", "value": f"ANSWER-{number:04}"}],
                **changes,
            }
            for number in range(cases)
        ]
    }


def upload(account: Account, text: str, *, suite: dict[str, Any] | None = None) -> str:
    """A snapshot whose package says this."""
    answer = account.client.post(
        "/api/v1/package-snapshots",
        content=an_archive(text=text, suite=suite or a_suite()),
        headers={"Content-Type": "application/gzip"},
    )
    return str(answer.json()["snapshot_id"])


def a_change(number: int, **changes: Any) -> dict[str, Any]:
    """A push to main; its number makes the commit."""
    usual = {
        "forge": "github",
        "repository": "acme/prompts",
        "repository_id": 7,
        "ref": "refs/heads/main",
        "head_sha": f"{number:040x}",
    }
    return usual | changes


def a_pull_request(number: int = 12, **changes: Any) -> dict[str, Any]:
    return a_change(number, ref="refs/heads/feature", base_ref="refs/heads/main", pull_request=number, **changes)


def run(account: Account, snapshot: str, **body: Any) -> dict[str, Any]:
    """The outcome of a job, whose id is in it as `job_id`."""
    submitted = account.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": snapshot, **body},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    assert submitted.status_code == 202, submitted.text
    job = finished_job(account, submitted.json()["job_id"])
    assert job["status"] == "completed", job
    outcome = account.client.get(f"/api/v1/test-jobs/{job['id']}/results").json()
    assert outcome["summary"]["conclusion"] == job["conclusion"]
    return outcome | {"job_id": job["id"]}


def push(account: Account, snapshot: str, *, times: int, first: int = 1000, **body: Any) -> list[dict[str, Any]]:
    """So many pushes to main; every model is asked anew each time."""
    return [run(account, snapshot, change=a_change(first + n), cache=False, **body) for n in range(times)]


def statuses(outcome: dict[str, Any]) -> list[str]:
    return [row["change"]["status"] for row in outcome["test_cases"]]


def test_comparison__a_broken_package_regresses_against_its_branch(alice: Account, comparing: Service):
    push(alice, upload(alice, "Be right with probability 1"), times=8)

    outcome = run(alice, upload(alice, "Be right with probability 0"), change=a_pull_request())

    assert outcome["summary"]["conclusion"] == "failed"
    assert statuses(outcome) == ["regressed"] * CASES
    change = outcome["test_cases"][0]["change"]
    assert (change["baseline"]["passed"], change["baseline"]["total"], change["effect"]) == (8, 8, -1.0)
    assert change["p_value"] == pytest.approx(0.000155, abs=1e-6)
    assert (change["reruns"]["passed"], change["reruns"]["total"]) == (0, 7)
    comparison = outcome["comparison"]
    assert (comparison["rule"], comparison["baseline_trials"], comparison["rerun_trials"]) == ("regressions", 40, 35)
    source = comparison["source"]
    assert (source["kind"], source["name"], source["jobs"]) == ("branch", "main", 8)
    assert source["oldest_at"] < source["newest_at"]
    assert outcome["gate"] == {
        "asked": "regressions",
        "decided_by": "regressions",
        "reasons": ["Decided by regressions: only a tested drop against the baseline fails the run."],
    }
