"""Runs of a forge's changes over real HTTP: one job for each event, newer heads, and what cannot be a change."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.test_api_jobs import a_snapshot, submit
from tests.packages import PASSING_SUITE
from tests.service import Account, Service, finished_job

FIRST, SECOND = "1" * 40, "2" * 40
CHANGE = {
    "forge": "github",
    "repository": "acme/prompts",
    "repository_id": 7,
    "ref": "refs/heads/feature",
    "head_sha": FIRST,
    "base_ref": "refs/heads/main",
    "pull_request": 12,
}
LONG = {"tests": [{**PASSING_SUITE["tests"][0], "repeat": 100}]}


def runs_used(account: Account) -> int:
    return account.client.get("/api/v1/users/me/test-usage").json()["current_month"]["test_runs_count"]


def test_change__V9_twenty_at_once_with_other_words_and_keys_get_one_job_and_one_charge(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)

    def tell(number: int) -> str:
        answer = submit(
            alice,
            snapshot_id=snapshot_id,
            suite=PASSING_SUITE,
            change=CHANGE,
            max_cost_usd=number + 1,
            headers={"Idempotency-Key": f"key-{number}"} if number % 2 else None,
        )
        assert answer.status_code == 202, answer.text
        return answer.text

    with ThreadPoolExecutor(20) as threads:
        answers = set(threads.map(tell, range(20)))

    assert len(answers) == 1
    assert runs_used(alice) == 1


def test_change__is_shown_with_its_job_and_branches_go_by_their_names(service: Service):
    alice = service.an_account()
    answer = submit(alice, snapshot_id=a_snapshot(alice), change=CHANGE, suite_name="quick")

    job = finished_job(alice, answer.json()["job_id"])

    assert job["suite_name"] == "quick"
    assert job["change"] == CHANGE | {"ref": "feature", "base_ref": "main", "cause": "head"}


def test_change__a_job_without_one_has_the_default_suite_and_no_change(service: Service):
    alice = service.an_account()

    job = finished_job(alice, submit(alice, snapshot_id=a_snapshot(alice)).json()["job_id"])

    assert job["suite_name"] == "default"
    assert "change" not in job
    assert "superseded_by" not in job


def test_change__Q15_a_newer_head_ends_the_running_one_within_two_seconds_and_runs(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    old = submit(alice, snapshot_id=snapshot_id, suite=LONG, models=["slow"], change=CHANGE).json()["job_id"]
    while not alice.client.get(f"/api/v1/test-jobs/{old}").json().get("progress", {}).get("trials_finished"):
        time.sleep(0.02)

    new = submit(alice, snapshot_id=snapshot_id, suite=PASSING_SUITE, change=CHANGE | {"head_sha": SECOND}).json()[
        "job_id"
    ]

    assert finished_job(alice, new, seconds=4)["conclusion"] == "passed"
    ended = finished_job(alice, old, seconds=4)
    assert (ended["status"], ended["code"], ended["superseded_by"]) == ("failed", "superseded", new)
    assert "newer commit" in ended["error"]
    # It had a verdict, so both count.
    assert runs_used(alice) == 2


def test_change__Q15_a_newer_head_ends_the_waiting_one_at_once_and_gives_it_back(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    busy = [
        submit(alice, snapshot_id=snapshot_id, suite=LONG, models=["slow"], force=True).json()["job_id"]
        for _ in range(2)
    ]
    old = submit(alice, snapshot_id=snapshot_id, suite=PASSING_SUITE, change=CHANGE).json()["job_id"]
    assert alice.client.get(f"/api/v1/test-jobs/{old}").json()["status"] == "queued"

    new = submit(alice, snapshot_id=snapshot_id, suite=PASSING_SUITE, change=CHANGE | {"head_sha": SECOND}).json()[
        "job_id"
    ]

    ended = alice.client.get(f"/api/v1/test-jobs/{old}").json()
    assert (ended["status"], ended["code"], ended["superseded_by"]) == ("failed", "superseded", new)
    assert runs_used(alice) == 3
    for job_id in busy:
        alice.client.post(f"/api/v1/test-jobs/{job_id}/cancel")
    assert finished_job(alice, new)["conclusion"] == "passed"


def test_change__Q8_a_key_that_was_used_for_another_event_is_a_conflict(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    key = {"Idempotency-Key": "mine"}
    assert submit(alice, snapshot_id=snapshot_id, change=CHANGE, headers=key).status_code == 202

    answer = submit(alice, snapshot_id=snapshot_id, change=CHANGE | {"head_sha": SECOND}, headers=key)

    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"
    assert runs_used(alice) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"forge": "bitbucket"},
        {"repository": "acme"},
        {"repository": "acme/\nprompts"},
        {"repository_id": 0},
        {"repository_id": 2**63},
        {"ref": ""},
        {"ref": "a b"},
        {"ref": "x" * 256},
        {"head_sha": "A" * 40},
        {"head_sha": "1" * 39},
        {"head_sha": "1" * 41},
        {"base_sha": "main"},
        {"base_sha": None},
        {"pull_request": 0},
        {"pull_request": 1.5},
        {"cause": ""},
        {"cause": "x" * 201},
        {"more": 1},
    ],
)
def test_change__what_cannot_be_one_is_a_400_that_names_it_and_keeps_nothing(service: Service, wrong: dict[str, Any]):
    alice = service.an_account()

    answer = submit(alice, package_id="@demo/any", change=CHANGE | wrong)

    assert answer.status_code == 400, answer.text
    assert "change" in answer.text
    assert service.fetch("SELECT id FROM usage_ledger WHERE user_id = $1", alice.id) == []


@pytest.mark.parametrize("name", ["", " ", "a b", "-x", "x" * 101, "ä", 5])
def test_suite_name__that_cannot_be_one_is_a_400(service: Service, name: object):
    answer = submit(service.an_account(), package_id="@demo/any", suite_name=name)

    assert answer.status_code == 400
    assert "suite_name" in answer.text
