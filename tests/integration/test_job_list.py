"""The list of one's jobs: filtered, in pages, and nobody else's."""

from __future__ import annotations

import pytest

from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import PASSING_SUITE
from tests.service import Service, finished_job


def test_list__is_the_callers_own_newest_first(service: Service):
    alice, bob = service.an_account(), service.an_account()
    passing = submit(alice, snapshot_id=a_snapshot(alice), suite=PASSING_SUITE).json()["job_id"]
    failing = submit(alice, snapshot_id=a_snapshot(alice)).json()["job_id"]
    for job_id in (passing, failing):
        finished_job(alice, job_id)

    jobs = alice.client.get("/api/v1/test-jobs").json()["jobs"]

    assert [(job["id"], job["conclusion"]) for job in jobs] == [(failing, "failed"), (passing, "passed")]
    assert jobs[0]["results"]["tests_failed"] == 1
    assert bob.client.get("/api/v1/test-jobs").json() == {"jobs": []}


def test_list__filters_by_status_and_package(service: Service):
    alice = service.an_account()
    job_id = submit(alice, snapshot_id=a_snapshot(alice, name="first")).json()["job_id"]
    submit(alice, snapshot_id=a_snapshot(alice, name="second"))
    finished_job(alice, job_id)

    first = alice.client.get("/api/v1/test-jobs", params={"package": "first", "status": "completed"}).json()["jobs"]

    assert [job["package"]["name"] for job in first] == ["first"]
    assert alice.client.get("/api/v1/test-jobs", params={"package": "x"}).json()["jobs"] == []
    assert alice.client.get("/api/v1/test-jobs", params={"status": "failed"}).json()["jobs"] == []


def test_list__goes_on_where_a_page_ended(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    submitted = [submit(alice, snapshot_id=snapshot_id, force=True).json()["job_id"] for _ in range(5)]

    seen, params = [], {"limit": 2}
    while True:
        page = alice.client.get("/api/v1/test-jobs", params=params).json()
        seen += [job["id"] for job in page["jobs"]]
        if "cursor" not in page:
            break
        params["cursor"] = page["cursor"]

    assert seen == submitted[::-1]


@pytest.mark.parametrize(
    "params",
    [{"cursor": "x"}, {"cursor": "é"}, {"cursor": "MjAyNg"}, {"status": "done"}, {"limit": 0}, {"limit": 101}],
)
def test_list__bad_input_is_a_400(service: Service, params: dict):
    alice = service.an_account()

    answer = alice.client.get("/api/v1/test-jobs", params=params)

    assert answer.status_code == 400
    assert set(answer.json()) >= {"error", "code"}
