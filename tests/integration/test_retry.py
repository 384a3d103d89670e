"""Running a job again: the same package, suite and models, as a new run of the same account."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import PASSING_SUITE
from tests.service import Account, Service, finished_job


def retry(account: Account, job_id: str, *, key: str | None = None) -> httpx.Response:
    headers = {"Idempotency-Key": key} if key is not None else {}
    return account.client.post(f"/api/v1/test-jobs/{job_id}/retry", headers=headers)


def a_finished_job(account: Account, **body) -> str:
    answer = submit(account, snapshot_id=a_snapshot(account), **{"models": ["echo"]} | body)
    job_id = answer.json()["job_id"]
    finished_job(account, job_id)
    return job_id


def runs_used(account: Account) -> int:
    return account.client.get("/api/v1/users/me/test-usage").json()["current_month"]["test_runs_count"]


def test_retry__a_finished_job_runs_again_as_it_was_and_counts(service: Service):
    alice = service.an_account()
    job_id = a_finished_job(alice, suite=PASSING_SUITE)

    answer = retry(alice, job_id)

    assert answer.status_code == 202
    assert answer.json()["status"] == "queued"
    assert answer.json()["usage"] == {"tests_used_this_month": 2, "tests_remaining": 98, "tier": "plus"}
    assert answer.json()["job_id"] != job_id
    first, again = finished_job(alice, job_id), finished_job(alice, answer.json()["job_id"])
    assert again["status"] == "completed"
    assert (again["package"], again["config"]) == (first["package"], first["config"])
    asked = service.fetch(
        "SELECT DISTINCT snapshot_id, suite_id FROM test_jobs WHERE user_id = $1 AND status = 'completed'", alice.id
    )
    assert len(asked) == 1


def test_retry__a_suite_of_the_package_stays_the_packages(service: Service):
    alice = service.an_account()
    job_id = a_finished_job(alice)

    again = finished_job(alice, retry(alice, job_id).json()["job_id"])

    assert again["config"]["suite_source"] == "package"


def test_retry__a_stored_suite_that_was_replaced_is_run_all_the_same(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice, suite=None)
    first = submit(alice, snapshot_id=snapshot_id, suite=PASSING_SUITE, models=["echo"]).json()["job_id"]
    package_id = finished_job(alice, first)["package"]["id"]
    stored = alice.client.put(f"/api/v1/packages/{package_id}/suite", json=PASSING_SUITE)
    assert stored.is_success, stored.text
    job_id = submit(alice, snapshot_id=snapshot_id, models=["echo"]).json()["job_id"]
    assert finished_job(alice, job_id)["config"]["suite_source"] == "stored"
    other = {"tests": [{"input": "Rome", "assert": [{"type": "contains", "value": "Rome"}]}]}
    alice.client.put(f"/api/v1/packages/{package_id}/suite", json=other)

    again = retry(alice, job_id).json()["job_id"]

    finished_job(alice, again)
    rows = alice.client.get(f"/api/v1/test-jobs/{again}/results").json()["test_cases"]
    assert [row["title"] for row in rows] == ["says Paris"]


def test_retry__Q7_Q11_a_repeat_is_the_same_job_with_a_key_or_without(service: Service):
    alice = service.an_account()
    job_id = a_finished_job(alice)

    with ThreadPoolExecutor(8) as pool:
        keyless = {answer.json()["job_id"] for answer in pool.map(lambda _: retry(alice, job_id), range(8))}
        keyed = {answer.content for answer in pool.map(lambda _: retry(alice, job_id, key="again"), range(8))}

    assert (len(keyless), len(keyed)) == (1, 1)
    assert runs_used(alice) == 3


def test_retry__Q8_Q10_a_key_of_another_request_is_a_conflict_and_a_bad_one_is_refused(service: Service):
    alice = service.an_account()
    job_id, other = a_finished_job(alice), a_finished_job(alice, suite=PASSING_SUITE)
    assert retry(alice, job_id, key="mine").status_code == 202

    assert retry(alice, other, key="mine").json()["code"] == "idempotency_conflict"
    assert retry(alice, other, key="x" * 256).status_code == 400
    assert runs_used(alice) == 3


def test_retry__a_job_that_has_not_ended_is_a_conflict(service: Service):
    alice = service.an_account()
    job_id = submit(alice, snapshot_id=a_snapshot(alice), models=["slow"]).json()["job_id"]

    answer = retry(alice, job_id)

    assert (answer.status_code, answer.json()["code"]) == (409, "job_not_finished")
    assert runs_used(alice) == 1


def test_retry__A12_anothers_job_is_not_there_and_an_admin_may_not_spend_for_it(service: Service):
    alice, bob, admin = service.an_account(), service.an_account(), service.an_account(is_admin=True)
    job_id = a_finished_job(alice)

    assert (retry(bob, job_id).status_code, retry(bob, job_id).json()["code"]) == (404, "job_not_found")
    assert retry(admin, job_id).status_code == 403
    assert retry(alice, "no-id").status_code == 404
    assert service.visitor().post(f"/api/v1/test-jobs/{job_id}/retry").status_code == 401
    assert [runs_used(account) for account in (alice, bob, admin)] == [1, 0, 0]


def test_retry__a_failed_job_can_be_sent_again_and_a_full_month_is_said(service: Service):
    alice = service.an_account()
    suite = {"tests": [{**PASSING_SUITE["tests"][0], "repeat": 100}]}  # long enough to be cancelled before its end
    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=suite, models=["slow"]).json()["job_id"]
    alice.client.post(f"/api/v1/test-jobs/{job_id}/cancel")
    assert finished_job(alice, job_id)["status"] == "failed"

    again = retry(alice, job_id)
    assert again.status_code == 202
    alice.client.post(f"/api/v1/test-jobs/{again.json()['job_id']}/cancel")

    service.fetch("UPDATE user_test_usage SET test_runs_count = 100 WHERE user_id = $1", alice.id)
    refused = retry(alice, job_id, key="full")
    assert (refused.status_code, refused.json()["code"]) == (402, "quota_exceeded")
