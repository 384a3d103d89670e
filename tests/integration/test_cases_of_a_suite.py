"""`cases` in the run request: a part of the suite runs, wherever the suite comes from."""

from __future__ import annotations

import pytest

from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import SUITE
from tests.service import Service, finished_job


@pytest.mark.parametrize("sent", [{}, {"suite": SUITE}], ids=["of the package", "of the request"])
def test_cases__only_those_run_and_count(service: Service, sent: dict):
    alice = service.an_account()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), cases=["PARIS"], **sent).json()["job_id"]

    assert finished_job(alice, job_id)["conclusion"] == "passed"
    rows = alice.client.get(f"/api/v1/test-jobs/{job_id}/results").json()["test_cases"]
    assert [row["title"] for row in rows] == ["says Paris"]


def test_cases__an_estimate_counts_them_alone(service: Service):
    alice = service.an_account()

    answer = submit(alice, snapshot_id=a_snapshot(alice), cases=["Paris"], dry_run=True).json()

    assert answer["trials"] == 1


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"cases": ["Vienna"]}, "No case's title holds 'Vienna'."),
        ({"cases": [""]}, "cases: at most 1000 texts of 1 to 1000 characters."),
        ({"cases": ["x"] * 1001}, "cases: at most 1000 texts of 1 to 1000 characters."),
        (
            {"cases": ["Paris"], "upload_results": True},
            "cases: some cases alone say too little about a package. Leave out `upload_results` and `verify_results`.",
        ),
    ],
)
def test_cases__what_names_none_is_refused_and_keeps_nothing(service: Service, body: dict, sentence: str):
    alice = service.an_account()

    answer = submit(alice, snapshot_id=a_snapshot(alice), **body)

    assert (answer.status_code, answer.json()["error"], answer.json()["code"]) == (400, sentence, "invalid_cases")
    assert service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id) == []


def test_cases__of_a_package_that_one_may_not_see_are_a_404_as_without(service: Service):
    alice, bob = service.an_account(), service.an_account()
    snapshot_id = a_snapshot(alice, name="hers")

    answer = submit(bob, snapshot_id=snapshot_id, cases=["Paris"])

    assert answer.status_code == 404
