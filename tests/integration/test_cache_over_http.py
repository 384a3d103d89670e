"""Kept answers as users see them: over HTTP, on pages and with the command, on a service whose cache is on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from server.store.migrations import migrate
from tests.conftest import _execute, with_database
from tests.events import all_events
from tests.integration.test_pages import browser
from tests.packages import PASSING_SUITE, SUITE, an_archive
from tests.service import Account, Service, finished_job, in_loop, start_service

PRPM = Path(sys.executable).parent / "prpm"


@pytest.fixture(scope="module")
def caching(admin_dsn: str, redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of this file's own."""
    name = f"prpm_test_{uuid.uuid4().hex[:12]}"
    in_loop(_execute(admin_dsn, f'CREATE DATABASE "{name}"'))
    dsn = with_database(admin_dsn, name)
    in_loop(migrate(dsn))
    folder = tmp_path_factory.mktemp("caching")
    yield from start_service(dsn=dsn, redis_url=redis_url, folder=folder, PRPM_CACHE_DAYS="14")


@pytest.fixture
def alice(caching: Service) -> Account:
    return caching.an_account()


def upload(account: Account, **package: Any) -> str:
    answer = account.client.post(
        "/api/v1/package-snapshots", content=an_archive(**package), headers={"Content-Type": "application/gzip"}
    )
    return answer.json()["snapshot_id"]


def submit(account: Account, **body: Any) -> dict[str, Any]:
    """The submit's answer. A key of its own, as equal bodies within seconds are one submit."""
    answer = account.client.post(
        "/api/v1/test-jobs/run",
        json={"models": ["priced"], **body},
        headers={"Idempotency-Key": uuid.uuid4().hex},
    )
    assert answer.status_code == 202, answer.text
    return answer.json()


def test_cached_job__is_queued_in_the_answer_and_completed_at_the_first_look(alice: Account):
    snapshot = upload(alice)
    ran = finished_job(alice, submit(alice, snapshot_id=snapshot)["job_id"])
    assert "cached" not in ran

    submitted = submit(alice, snapshot_id=snapshot)
    job = alice.client.get(f"/api/v1/test-jobs/{submitted['job_id']}").json()

    assert submitted["status"] == "queued"
    assert submitted["usage"]["tests_used_this_month"] == 1
    assert "position_in_queue" not in submitted
    assert (job["status"], job["cached"], job["cached_at"]) == ("completed", True, ran["completed_at"])
    expected = {**ran["results"], "total_cost_usd": 0, "trials_cached": 2, "cached": True}
    assert job["results"] == {**expected, "cached_at": ran["completed_at"]}
    assert job["conclusion"] == ran["conclusion"] == "failed"
    listed = alice.client.get("/api/v1/test-jobs").json()["jobs"]
    assert [entry.get("cached") for entry in listed] == [True, None]
    usage = alice.client.get("/api/v1/users/me/test-usage").json()
    assert usage["current_month"]["test_runs_count"] == 1
    totals = alice.client.get("/api/v1/users/me/test-usage/ledger").json()["totals"]
    assert totals == {"charges": 1, "refunds": 0, "cached": 1, "runs": 1}


def test_cached_job__its_results_say_it_in_every_row_and_cost_nothing(alice: Account):
    snapshot = upload(alice)
    ran = finished_job(alice, submit(alice, snapshot_id=snapshot)["job_id"])
    paid = alice.client.get(f"/api/v1/test-jobs/{ran['id']}/results").json()

    job_id = submit(alice, snapshot_id=snapshot)["job_id"]
    free = alice.client.get(f"/api/v1/test-jobs/{job_id}/results").json()

    assert [row["cache"] for row in paid["test_cases"]] == [{"state": "miss", "reason": "not asked before"}] * 2
    for before, after in zip(paid["test_cases"], free["test_cases"], strict=True):
        assert before["cost_usd"] > 0
        assert len(before.pop("attempts")) == 1  # and nobody was called for the second job
        assert after == {
            **before,
            "cost_usd": 0,
            "cache": {
                "state": "hit",
                "reason": f"an identical job ended at {ran['completed_at']}",
                "saved_usd": before["cost_usd"],
            },
        }


def test_cached_job__who_waits_for_it_is_answered_at_once(alice: Account):
    snapshot = upload(alice)
    finished_job(alice, submit(alice, snapshot_id=snapshot)["job_id"])
    job_id = submit(alice, snapshot_id=snapshot)["job_id"]
    began = time.monotonic()

    waited = alice.client.get(f"/api/v1/test-jobs/{job_id}", params={"wait": 25}).json()
    events = all_events(alice.client, job_id)

    assert time.monotonic() - began < 10
    assert (waited["status"], waited["cached"]) == ("completed", True)
    assert events[-1].data["status"] == "completed"
    assert "trial" not in {event.name for event in events}


def test_cached_job__the_page_says_since_when(caching: Service, alice: Account):
    snapshot = upload(alice)
    ran = finished_job(alice, submit(alice, snapshot_id=snapshot)["job_id"])
    job_id = submit(alice, snapshot_id=snapshot)["job_id"]

    page = browser(caching, alice).get(f"/jobs/{job_id}").text

    minute = ran["completed_at"][:16].replace("T", " ")
    assert f"Not run again: an identical job ended on {minute} UTC" in page
    assert "Not run again" not in browser(caching, alice).get(f"/jobs/{ran['id']}").text


def test_cached_answers__the_page_says_what_was_kept_and_why(caching: Service, alice: Account):
    snapshot = upload(alice)
    finished_job(alice, submit(alice, snapshot_id=snapshot, suite=PASSING_SUITE)["job_id"])
    job_id = submit(alice, snapshot_id=snapshot, suite=SUITE)["job_id"]
    finished_job(alice, job_id)

    page = browser(caching, alice).get(f"/jobs/{job_id}").text

    assert "1 of 2 answers were kept from earlier runs and cost nothing" in page
    assert "Cache: hit, answered on 20" in page
    assert "Cache: miss, not asked before" in page


def test_models__say_nothing_of_how_they_are_reached(alice: Account):
    models = alice.client.get("/api/v1/models").json()["models"]

    assert {"name", "default", "reachable"} <= set(models[0])
    assert not any("fingerprint" in model for model in models)


@pytest.mark.parametrize("cache", ["yes", 7, [], {}])
def test_submit__I10_cache_is_true_or_false(alice: Account, cache: Any):
    answer = alice.client.post("/api/v1/test-jobs/run", json={"package_id": "@a/b", "cache": cache})

    assert answer.status_code == 400
    assert "cache" in answer.text


def prpm(caching: Service, account: Account, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        "PATH": "", "HOME": str(folder), "PRPM_TOKEN": account.token, "PRPM_REGISTRY_URL": caching.url,
        "LC_ALL": "C.UTF-8",
    }  # fmt: skip
    return subprocess.run(
        [PRPM, "test", *arguments],
        env=environment, cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_prpm_test__says_what_was_cached_and_runs_anew_when_asked(caching: Service, alice: Account, tmp_path: Path):
    (tmp_path / "package.tar.gz").write_bytes(an_archive(suite=PASSING_SUITE))
    prpm(caching, alice, tmp_path, "package.tar.gz", "-m", "priced", "--suite", suite_file(tmp_path, "one"))

    cached = prpm(caching, alice, tmp_path, "package.tar.gz", "-m", "priced", "--suite", suite_file(tmp_path, "two"))
    anew = prpm(caching, alice, tmp_path, "package.tar.gz", "-m", "priced", "--no-cache", "--verbose", "--json")

    assert cached.returncode == anew.returncode == 0
    assert "   Cached: 1 answer from earlier runs\n" in cached.stdout
    again = prpm(caching, alice, tmp_path, "package.tar.gz", "-m", "priced")
    assert "   Cached: yes, from an identical run of 20" in again.stdout
    assert "Cached:" not in anew.stderr
    [row] = json.loads(anew.stdout)["test_cases"]
    assert row["cache"] == {"state": "bypass", "reason": "the run asks every model anew"}


def suite_file(folder: Path, name: str) -> str:
    """The same test, in a suite of another description."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**PASSING_SUITE, "description": name}))
    return path.name
