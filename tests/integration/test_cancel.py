"""Cancelling: a waiting job at once, a running one soon, and the count explained either way."""

from __future__ import annotations

import time
import uuid

from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import PASSING_SUITE
from tests.service import Account, Service, finished_job

LONG = {"tests": [{**PASSING_SUITE["tests"][0], "repeat": 100}]}


def cancel(account: Account, job_id: str):
    return account.client.post(f"/api/v1/test-jobs/{job_id}/cancel")


def runs_left(account: Account) -> int:
    return account.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"]


def test_cancel__Q6_a_waiting_job_ends_at_once_and_is_given_back(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    jobs = [
        submit(alice, snapshot_id=snapshot_id, suite=LONG, models=["slow"], force=True).json()["job_id"]
        for _ in range(3)
    ]
    waiting = alice.client.get(f"/api/v1/test-jobs/{jobs[2]}").json()
    assert waiting["status"] == "queued"
    assert waiting["position_in_queue"] >= 1

    answer = cancel(alice, jobs[2])

    assert answer.status_code == 202
    assert (answer.json()["status"], answer.json()["code"]) == ("failed", "cancelled")
    assert "started_at" not in answer.json()
    assert cancel(alice, jobs[2]).status_code == 202
    assert runs_left(alice) == 98
    for job_id in jobs[:2]:
        cancel(alice, job_id)
        finished_job(alice, job_id)


def test_cancel__Q6_a_running_job_ends_within_two_seconds_and_counts(service: Service):
    alice = service.an_account()
    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=LONG, models=["slow"]).json()["job_id"]
    while not alice.client.get(f"/api/v1/test-jobs/{job_id}").json().get("progress", {}).get("trials_finished"):
        time.sleep(0.02)

    assert cancel(alice, job_id).status_code == 202

    job = finished_job(alice, job_id, seconds=4)
    assert (job["status"], job["code"]) == ("failed", "cancelled")
    outcome = alice.client.get(f"/api/v1/test-jobs/{job_id}/results").json()
    assert outcome["summary"]["tests_skipped"] + outcome["summary"]["tests_passed"] == 1
    assert runs_left(alice) == 99
    assert cancel(alice, job_id).status_code == 202


def test_cancel__a_finished_job_is_a_conflict_and_anothers_is_not_there(service: Service):
    alice, bob = service.an_account(), service.an_account()
    job_id = submit(alice, snapshot_id=a_snapshot(alice)).json()["job_id"]
    finished_job(alice, job_id)

    assert cancel(alice, job_id).status_code == 409
    assert cancel(bob, job_id).status_code == 404
    assert cancel(alice, str(uuid.uuid4())).status_code == 404
    assert runs_left(alice) == 99
