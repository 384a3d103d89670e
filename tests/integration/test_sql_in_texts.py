"""SQL in texts that people and forges send is text: it is kept as it came, or refused, and never run."""

from __future__ import annotations

import pytest

from tests.packages import PASSING_SUITE, an_archive
from tests.service import Service, finished_job

TEXTS = [
    "'; DROP TABLE users; --",
    "x' OR '1'='1",
    "$1); DELETE FROM usage_ledger; --",
    "%_\\' || pg_sleep(9) || '",
    '"; --',
]


def tables(service: Service) -> list[str]:
    rows = service.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    return [row["tablename"] for row in rows]


@pytest.mark.parametrize("text", TEXTS)
def test_job__I18_SQL_in_every_text_of_a_submit_is_kept_as_text(service: Service, text: str) -> None:
    alice, before = service.an_account(), tables(service)
    suite = {
        "description": text,
        "defaultTest": {"vars": {"v": text}},
        "tests": [
            {"description": text, "input": "{{ v }}", "assert": [{"type": "equals", "value": text, "metric": text}]}
        ],
        "derivedMetrics": [{"name": text, "value": "__count"}],
    }
    headers = {"Content-Type": "application/gzip"}
    archive = an_archive(text="It is " + text, suite=PASSING_SUITE)
    snapshot = alice.client.post("/api/v1/package-snapshots", content=archive, headers=headers).json()["snapshot_id"]

    answer = alice.client.post(
        "/api/v1/test-jobs/run",
        json={"snapshot_id": snapshot, "suite": suite},
        headers={"Idempotency-Key": text},
    )

    assert answer.status_code == 202, answer.text
    job = finished_job(alice, answer.json()["job_id"])
    assert job["conclusion"] == "passed"
    outcome = alice.client.get(f"/api/v1/test-jobs/{answer.json()['job_id']}/results").json()
    (row,) = outcome["test_cases"]
    assert (row["title"], row["response"], row["named_scores"]) == (text, text, {text: 1})
    assert outcome["summary"]["derived_metrics"] == {"echo": {text: 1}}
    kept = service.fetch("SELECT key FROM submissions WHERE caller_id = $1 AND key = $2", alice.id, f"key:{text}")
    assert len(kept) == 1
    assert tables(service) == before


@pytest.mark.parametrize("text", TEXTS)
def test_requests__I18_SQL_where_a_name_is_looked_for_finds_nothing(service: Service, text: str) -> None:
    alice, before = service.an_account(), tables(service)
    answers = [
        alice.client.get("/api/v1/test-jobs", params={"package": text}),
        alice.client.get("/api/v1/test-jobs", params={"status": text}),
        alice.client.get("/api/v1/test-jobs", params={"cursor": text}),
        alice.client.get("/api/v1/test-jobs/" + text.replace("/", "")),
        alice.client.post("/api/v1/test-jobs/run", json={"package_id": text}),
        alice.client.post("/api/v1/test-jobs/run", json={"package_id": "@a/b", "version": text}),
        alice.client.post("/api/v1/test-jobs/run", json={"package_id": "@a/b", "models": [text]}),
        alice.client.post("/api/v1/test-jobs/run", json={"package_id": "@a/b", "organization": text}),
    ]

    assert answers[0].json() == {"jobs": []} or answers[0].status_code == 400
    assert [answer.status_code for answer in answers[1:] if answer.status_code not in (400, 403, 404)] == []
    assert tables(service) == before
