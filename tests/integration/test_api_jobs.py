"""The job's four endpoints, over real HTTP against real processes."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.packages import PASSING_SUITE, SUITE, an_archive
from tests.service import Account, Service, finished_job


def a_snapshot(account: Account, **kwargs) -> str:
    answer = account.client.post(
        "/api/v1/package-snapshots",
        content=an_archive(**kwargs),
        headers={"Content-Type": "application/gzip"},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["snapshot_id"]


def submit(account: Account, *, headers: dict[str, str] | None = None, **body):
    return account.client.post("/api/v1/test-jobs/run", json=body, headers=headers)


def test_job__runs_from_submit_to_results(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)

    answer = submit(alice, snapshot_id=snapshot_id, models=["echo"])

    assert answer.status_code == 202
    submitted = answer.json()
    assert uuid.UUID(submitted["job_id"])
    assert submitted["status"] == "queued"
    assert submitted["usage"] == {"tests_used_this_month": 1, "tests_remaining": 99, "tier": "plus"}
    assert submitted["position_in_queue"] >= 1

    job = finished_job(alice, submitted["job_id"])
    assert job["status"] == "completed"
    assert job["conclusion"] == "failed"
    assert job["package"]["name"] == "sample"
    assert job["config"] == {"models": ["echo"], "framework": "litellm", "suite_source": "package"}
    results = job["results"]
    assert (results["total_tests"], results["tests_passed"], results["tests_failed"]) == (2, 1, 1)
    assert results["overall_score"] == 0.5
    assert results["total_tokens"] > 0
    assert results["total_cost_usd"] == 0
    assert "error" not in job
    assert "test_result_id" not in results

    outcome = alice.client.get(f"/api/v1/test-jobs/{submitted['job_id']}/results").json()
    assert [(row["title"], row["passed"], row["state"]) for row in outcome["test_cases"]] == [
        ("says Paris", True, "passed"),
        ("says Rome", False, "failed"),
    ]
    failed = outcome["test_cases"][1]
    assert failed["response"] == "no city at all"
    assert failed["assertions"][0]["type"] == "contains"
    assert failed["assertions"][0]["passed"] is False
    assert outcome["summary"]["conclusion"] == "failed"


def test_job__suite_of_the_request_comes_first_and_no_model_means_the_default(service: Service):
    alice = service.an_account()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=PASSING_SUITE).json()["job_id"]

    job = finished_job(alice, job_id)
    assert job["conclusion"] == "passed"
    assert job["config"]["suite_source"] == "request"
    assert job["config"]["models"] == ["echo"]


def test_job__several_models_make_a_row_each_and_cost_what_the_catalogue_says(service: Service):
    alice = service.an_account()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=PASSING_SUITE, models=["echo", "priced"]).json()[
        "job_id"
    ]

    finished_job(alice, job_id)
    outcome = alice.client.get(f"/api/v1/test-jobs/{job_id}/results").json()
    assert [row["model"] for row in outcome["test_cases"]] == ["echo", "priced"]
    priced = outcome["test_cases"][1]
    expected = (priced["input_tokens"] * 1000 + priced["output_tokens"] * 2000) / 1_000_000
    assert priced["cost_usd"] == pytest.approx(expected)
    assert outcome["summary"]["total_cost_usd"] == pytest.approx(expected)
    usage = alice.client.get("/api/v1/users/me/test-usage").json()
    assert usage["current_month"]["cost_usd"] == pytest.approx(expected)
    assert usage["current_month"]["tokens_used"] == outcome["summary"]["total_tokens"]


def test_job__no_verdict_at_all_fails_and_gives_the_run_back(service: Service):
    alice = service.an_account()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), models=["broken"]).json()["job_id"]

    job = finished_job(alice, job_id, seconds=30)
    assert job["status"] == "failed"
    assert job["code"] == "no_verdict"
    assert "No test has a verdict" in job["error"]
    assert "results" not in job
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 100
    ledger = service.fetch("SELECT kind, runs FROM usage_ledger WHERE user_id = $1 ORDER BY id", alice.id)
    assert [tuple(row) for row in ledger] == [("charge", 1), ("refund", -1)]


def test_job__some_errors_beside_verdicts_are_inconclusive_and_charged(service: Service):
    alice = service.an_account()

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=PASSING_SUITE, models=["echo", "broken"]).json()[
        "job_id"
    ]

    job = finished_job(alice, job_id, seconds=30)
    assert (job["status"], job["conclusion"]) == ("completed", "inconclusive")
    assert (
        job["results"]["tests_passed"],
        job["results"]["tests_failed"],
        job["results"]["tests_errored"],
    ) == (1, 1, 1)
    assert alice.client.get("/api/v1/users/me/test-usage").json()["remaining"]["test_runs"] == 99


def test_job__shows_progress_while_it_runs(service: Service):
    alice = service.an_account()
    cases = [{**PASSING_SUITE["tests"][0], "description": f"case {i}"} for i in range(45)]

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite={"tests": cases}, models=["slow"]).json()["job_id"]

    seen = set()
    while (job := alice.client.get(f"/api/v1/test-jobs/{job_id}").json())["status"] in ("queued", "running"):
        seen.add(job["progress"]["trials_finished"])
        assert job["progress"]["trials_total"] == 45
        assert "results" not in job
    assert max(seen) > 0
    early = alice.client.get(f"/api/v1/test-jobs/{job_id}/results")
    assert early.status_code == 200


def test_results__before_the_end_are_a_conflict(service: Service):
    alice = service.an_account()
    job_id = submit(alice, snapshot_id=a_snapshot(alice), models=["slow"]).json()["job_id"]

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}/results")

    assert answer.status_code == 409
    assert answer.json()["code"] == "job_not_finished"
    finished_job(alice, job_id)


def test_submit__Q7_same_key_and_body_make_one_job_and_equal_bytes(service: Service):
    alice = service.an_account()
    body = {"snapshot_id": a_snapshot(alice), "models": ["echo"]}

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: submit(alice, headers={"Idempotency-Key": "one"}, **body), range(60)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len(service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id)) == 1
    assert [row["kind"] for row in service.fetch("SELECT kind FROM usage_ledger WHERE user_id = $1", alice.id)] == [
        "charge"
    ]


def test_submit__Q8_same_key_and_other_body_are_a_conflict(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    submit(alice, headers={"Idempotency-Key": "k"}, snapshot_id=snapshot_id)

    answer = submit(alice, headers={"Idempotency-Key": "k"}, snapshot_id=snapshot_id, force=True)

    assert answer.status_code == 409
    assert answer.json()["code"] == "idempotency_conflict"
    assert len(service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id)) == 1


@pytest.mark.parametrize("key", ["x" * 256, "a\tb"])
def test_submit__Q10_unusable_keys_are_refused(service: Service, key: str):
    alice = service.an_account()

    answer = submit(alice, headers={"Idempotency-Key": key}, snapshot_id="0" * 64)

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_idempotency_key"


def test_submit__Q10_another_users_key_is_separate(service: Service):
    alice, bob = service.an_account(), service.an_account()

    jobs = [
        submit(who, headers={"Idempotency-Key": "shared"}, snapshot_id=a_snapshot(who)).json()["job_id"]
        for who in (alice, bob)
    ]

    assert len(set(jobs)) == 2


def test_submit__Q11_an_equal_one_within_seconds_gets_the_same_job_unless_forced(service: Service):
    alice = service.an_account()
    body = {"snapshot_id": a_snapshot(alice), "models": ["echo"]}

    first, second = submit(alice, **body), submit(alice, **body)
    forced = submit(alice, **body, force=True)
    other = submit(alice, **body, suite=SUITE)

    assert first.content == second.content
    assert len({first.json()["job_id"], forced.json()["job_id"], other.json()["job_id"]}) == 3


def test_submit__Q1_parallel_ones_take_exactly_what_is_left(service: Service):
    alice = service.an_account()
    snapshot_id = a_snapshot(alice)
    service.fetch(
        "INSERT INTO user_test_usage (user_id, month, test_runs_count)"
        " VALUES ($1, DATE_TRUNC('month', NOW() AT TIME ZONE 'UTC')::DATE, 99)",
        alice.id,
    )

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: submit(alice, snapshot_id=snapshot_id, force=True), range(40)))

    codes = [answer.status_code for answer in answers]
    assert (codes.count(202), codes.count(402)) == (1, 39)
    refused = next(answer.json() for answer in answers if answer.status_code == 402)
    assert refused["code"] == "quota_exceeded"
    assert refused["resets_at"].endswith("-01T00:00:00Z")
    assert "prpm Pro" in refused["error"]
    assert len(service.fetch("SELECT id FROM test_jobs WHERE user_id = $1", alice.id)) == 1
    assert len(service.fetch("SELECT key FROM submissions WHERE caller_id = $1", alice.id)) == 1


def test_submit__free_tier_is_told_what_to_do(service: Service):
    bob = service.an_account(tier="free")

    answer = submit(bob, snapshot_id=a_snapshot(bob))

    assert answer.status_code == 403
    assert answer.json()["code"] == "free_tier"
    assert "prpm subscribe" in answer.json()["error"]


def test_submit__unlimited_is_a_number_with_a_flag(service: Service):
    big = service.an_account(tier="enterprise")

    usage = submit(big, snapshot_id=a_snapshot(big)).json()["usage"]

    assert usage == {
        "tests_used_this_month": 1,
        "tests_remaining": 999_999_999,
        "tier": "enterprise",
        "unlimited": True,
    }


REFUSED = {
    "no body": ({}, "package_id"),
    "both": ({"package_id": "a", "snapshot_id": "0" * 64}, "not both"),
    "A18 unknown field": ({"package_id": "a", "tier": "pro"}, "tier"),
    "I1 unknown model": ({"package_id": "a", "models": ["gpt-9"]}, "gpt-9"),
    "I1 mixed case": ({"package_id": "a", "models": ["ECHO"]}, "ECHO"),
    "I1 empty name": ({"package_id": "a", "models": [""]}, "models[0]"),
    "I1 no models": ({"package_id": "a", "models": []}, "models"),
    "I1 duplicate": ({"package_id": "a", "models": ["echo", "echo"]}, "twice"),
    "I1 51 models": ({"package_id": "a", "models": ["echo"] * 51}, "at most 20"),
    "I1 10 kB name": ({"package_id": "a", "models": ["x" * 10_000]}, "models[0]"),
    "unreachable model": ({"package_id": "a", "models": ["keyed"]}, "cannot be reached"),
    "I2 plugin": ({"package_id": "a", "plugins": ["../x"]}, "plugins"),
    "agent framework": ({"package_id": "a", "framework": "claude-agent"}, "framework"),
    "unknown framework": ({"package_id": "a", "framework": "other"}, "framework"),
    "I3 traversal": ({"package_id": "../x"}, "package_id"),
    "I3 deep": ({"package_id": "@a/../../b"}, "package_id"),
    "I3 encoded": ({"package_id": "%2e%2e"}, "package_id"),
    "I3 long": ({"package_id": "a" * 215}, "package_id"),
    "I3 empty": ({"package_id": ""}, "package_id"),
    "snapshot id": ({"snapshot_id": "zz"}, "snapshot_id"),
    "types": ({"package_id": 7}, "package_id"),
    "suite not an object": ({"package_id": "a", "suite": []}, "suite"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_submit__bad_input_is_a_400_that_names_the_field(service: Service, case: str):
    alice = service.an_account()
    body, named = REFUSED[case]

    answer = submit(alice, **body)

    assert answer.status_code == 400, answer.text
    assert named in answer.text
    assert set(answer.json()) >= {"error", "code"}
    assert service.fetch("SELECT key FROM submissions WHERE caller_id = $1", alice.id) == []


def test_submit__a_broken_suite_names_the_place(service: Service):
    alice = service.an_account()

    answer = submit(
        alice,
        snapshot_id=a_snapshot(alice),
        suite={"tests": [{"input": "x", "assert": [{"type": "contians"}]}]},
    )

    assert answer.status_code == 400
    assert answer.json()["code"] == "invalid_suite"
    assert "tests[0].assert[0]" in answer.text
    assert "contains" in answer.text


def test_submit__a_package_without_tests_is_a_422_that_says_where_they_may_live(service: Service):
    alice = service.an_account()

    answer = submit(alice, snapshot_id=a_snapshot(alice, suite=None))

    assert answer.status_code == 422
    assert answer.json()["code"] == "no_suite"
    assert "prpm.test.yaml" in answer.json()["error"]


def test_submit__too_many_trials_for_the_tier_are_refused(service: Service):
    alice = service.an_account()
    case = {**PASSING_SUITE["tests"][0], "repeat": 100}

    answer = submit(alice, snapshot_id=a_snapshot(alice), suite={"tests": [case] * 6})

    assert answer.status_code == 400
    assert answer.json()["code"] == "too_many_trials"
    assert "600" in answer.json()["error"]


RAW = {
    "I14 nested": (b'{"package_id": ' + b"[" * 3000 + b"]" * 3000 + b"}", "application/json", 400),
    "I14 unknown nested": (b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}", "application/json", 400),
    "I14 NUL": (b'{"package_id": "a\\u0000"}', "application/json", 400),
    "I14 raw NUL": (b'{"package_id": "a\x00"}', "application/json", 400),
    "I14 UTF-8": (b'{"package_id": "\xff\xfe"}', "application/json", 400),
    "I14 integer": (b'{"package_id": 99999999999999999999999}', "application/json", 400),
    "I14 float": (b'{"package_id": 1e999}', "application/json", 400),
    "malformed": (b'{"package_id": ', "application/json", 400),
    "empty": (b"", "application/json", 400),
    "array": (b"[]", "application/json", 400),
    "I15 text": (b'{"package_id": "a"}', "text/plain", 415),
    "I15 none": (b'{"package_id": "a"}', "", 415),
    "W10 utf-16": ('{"package_id": "a"}'.encode("utf-16"), "application/json; charset=utf-16", 415),
    "large": (b'{"package_id": "' + b"a" * 2_000_000 + b'"}', "application/json", 413),
    "huge": (b"a" * 12_000_000, "application/json", 413),
}


@pytest.mark.parametrize("case", RAW)
def test_submit__raw_bodies_are_refused_cleanly(service: Service, case: str):
    alice = service.an_account()
    content, media_type, status = RAW[case]

    answer = alice.client.post("/api/v1/test-jobs/run", content=content, headers={"Content-Type": media_type})

    assert answer.status_code == status, answer.text
    assert set(answer.json()) >= {"error", "code"}


def test_submit__W12_packed_bodies_are_not_unpacked(service: Service):
    alice = service.an_account()

    answer = alice.client.post(
        "/api/v1/test-jobs/run",
        content=b"\x1f\x8b",
        headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
    )

    assert answer.status_code == 415


@pytest.mark.parametrize("suffix", ["", "/results"])
@pytest.mark.parametrize("job_id", ["6c4d2a61-62c9-4c42-85cf-c5822d79a574", "not-a-uuid", "x" * 10_000, "%00", "..%2f"])
def test_job__A14_ids_that_are_none_are_a_404(service: Service, suffix: str, job_id: str):
    alice = service.an_account()

    answer = alice.client.get(f"/api/v1/test-jobs/{job_id}{suffix}")

    assert answer.status_code == 404
    assert answer.json()["code"] in ("job_not_found", "not_found")


def test_job__A12_another_users_job_is_answered_like_one_that_is_not_there(service: Service):
    alice, bob = service.an_account(), service.an_account()
    snapshot_id = a_snapshot(alice)
    job_id = submit(alice, snapshot_id=snapshot_id).json()["job_id"]
    finished_job(alice, job_id)

    for path in (f"/api/v1/test-jobs/{job_id}", f"/api/v1/test-jobs/{job_id}/results"):
        theirs = bob.client.get(path)
        random = bob.client.get(path.replace(job_id, str(uuid.uuid4())))
        assert theirs.status_code == 404
        assert theirs.content == random.content
    assert submit(bob, snapshot_id=snapshot_id).status_code == 404
    page = bob.client.get(f"/jobs/{job_id}")
    assert page.status_code == 404
    assert "sample" not in page.text


def test_job__an_administrator_sees_it(service: Service):
    alice, root = service.an_account(), service.an_account(is_admin=True)
    job_id = submit(alice, snapshot_id=a_snapshot(alice)).json()["job_id"]

    assert root.client.get(f"/api/v1/test-jobs/{job_id}").status_code == 200


def test_job__I17_NUL_and_odd_characters_come_back_as_they_were(service: Service):
    alice = service.an_account()
    text = "\u202e right to left, 🙂, <script>alert(1)</script>, '; DROP TABLE users; --"
    suite = {"tests": [{"description": text, "input": text, "assert": [{"type": "equals", "value": text}]}]}

    job_id = submit(alice, snapshot_id=a_snapshot(alice), suite=suite).json()["job_id"]

    finished_job(alice, job_id)
    row = alice.client.get(f"/api/v1/test-jobs/{job_id}/results").json()["test_cases"][0]
    assert (row["title"], row["response"], row["passed"]) == (text, text, True)


def test_upload__stores_the_result_with_the_completion(service: Service):
    alice, bob = service.an_account(), service.an_account()
    snapshot_id = a_snapshot(alice)

    job_id = submit(alice, snapshot_id=snapshot_id, upload_results=True).json()["job_id"]

    job = finished_job(alice, job_id)
    results = alice.client.get(f"/api/v1/packages/{job['package']['id']}/test-results").json()
    assert results["total"] == 1
    assert results["test_results"][0]["id"] == job["results"]["test_result_id"]
    assert results["test_results"][0]["job_id"] == job_id
    assert results["test_results"][0]["summary"]["tests_passed"] == 1
    assert bob.client.get(f"/api/v1/packages/{job['package']['id']}/test-results").status_code == 404


def test_usage__matches_the_contract(service: Service):
    alice = service.an_account(tier="pro")

    usage = alice.client.get("/api/v1/users/me/test-usage").json()

    assert usage["current_month"] == {"test_runs_count": 0, "tokens_used": 0, "cost_usd": 0.0}
    assert usage["limits"] == {"tier": "pro", "test_runs_per_month": 500, "concurrent_jobs": 5}
    assert usage["remaining"] == {"test_runs": 500}
