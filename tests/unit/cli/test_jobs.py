"""`prpm jobs` and `prpm job`: looking at tests after the fact."""

from __future__ import annotations

import json

from tests.standins.service import JOB_ID, Reply, Service, a_job, a_row, a_summary
from tests.unit.cli.conftest import User

LIST = "GET /api/v1/test-jobs"
STATUS = "GET /api/v1/test-jobs/{id}"
RESULTS = "GET /api/v1/test-jobs/{id}/results"


def a_listed_job(status: str, **more: object) -> dict[str, object]:
    package = {"id": "p1", "name": "@alice/review", "version": "1.0.2"}
    return {"id": JOB_ID, "status": status, "package": package, "models": ["gpt-4o"],
            "created_at": "2026-01-02T03:04:05.678Z"} | more  # fmt: skip


def test_jobs__are_a_line_each(alice: User, service: Service) -> None:
    passed, failed = a_summary([a_row("Review")]), a_summary([a_row("Review", passed=False, score=0.0, state="failed")])
    listed = [
        a_listed_job("running"),
        a_listed_job("completed", results=passed),
        a_listed_job("completed", results=failed),
        a_listed_job("failed", error="No test has a verdict."),
    ]
    service.set(LIST, Reply({"jobs": listed}))

    ran = alice.runs("jobs", "--status", "completed", "--limit", "5")

    about = f"   2026-01-02 03:04  {JOB_ID}  @alice/review@1.0.2  gpt-4o  "
    assert ran.out.splitlines() == [
        "📋 Test jobs:",
        "",
        f"{about}⏳ running",
        f"{about}✅ 1/1 passed",
        f"{about}❌ 0/1 passed",
        f"{about}❌ No test has a verdict.",
    ]
    assert service.seen[-1].path == "/api/v1/test-jobs?status=completed&limit=5"


def test_jobs__none_and_json(alice: User, service: Service) -> None:
    service.set(LIST, Reply({"jobs": []}))

    assert "none yet" in alice.runs("jobs").out
    assert json.loads(alice.runs("jobs", "--json").out)["jobs"] == []


def test_job__shows_a_finished_one_as_the_test_did(alice: User, service: Service) -> None:
    rows = [a_row("Review"), a_row("Security", passed=False, score=0.0, state="failed")]
    service.set(STATUS, Reply(a_job("completed", results=a_summary(rows))))
    service.set(RESULTS, Reply({"test_cases": rows, "summary": a_summary(rows)}))

    ran = alice.runs("job", JOB_ID)

    assert ran.code == 1
    assert "✅ Review (100%)" in ran.out
    assert "❌ Security" in ran.out
    assert f"/jobs/{JOB_ID}" in ran.out


def test_job__cancel_ends_it(alice: User, service: Service) -> None:
    ran = alice.runs("job", JOB_ID, "--cancel")

    assert (ran.code, ran.out) == (0, f"🛑 Cancelled: {JOB_ID}\n")
    assert [(seen.method, seen.path) for seen in service.seen] == [("POST", f"/api/v1/test-jobs/{JOB_ID}/cancel")]


def test_job__that_is_not_there_is_said(alice: User, service: Service) -> None:
    service.set(STATUS, Reply({"error": "There is no such job.", "code": "job_not_found"}, status=404))

    ran = alice.runs("job", "nonsense")

    assert (ran.code, ran.err) == (2, "❌ Failed to get test job: There is no such job.\n")
